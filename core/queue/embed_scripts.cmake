# Writes the server-side scripts as C data: cmake -DOUT=… -DFOLDER=… -DNAMES=open,drop -P embed_scripts.cmake
# The SHA-1 of the same bytes is what EVALSHA asks for, so it never has to be computed or fetched at run time.
string(REPLACE "," ";" names "${NAMES}")
set(arrays "")
set(table "")
foreach(name IN LISTS names)
  file(READ ${FOLDER}/${name}.lua hex HEX)
  file(SHA1 ${FOLDER}/${name}.lua sha1)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  string(TOUPPER ${name} upper)
  string(APPEND arrays "static const char text_${name}[] = {${bytes}};\n")
  string(APPEND table "    [SCRIPT_${upper}] = {\"${name}\", \"${sha1}\", {text_${name}, sizeof(text_${name})}},\n")
endforeach()
file(WRITE ${OUT} "/* Made from scripts/ by embed_scripts.cmake. */\n#include \"queue/scripts.h\"\n\n${arrays}\n"
                  "const struct script scripts[SCRIPT_COUNT] = {\n${table}};\n")
