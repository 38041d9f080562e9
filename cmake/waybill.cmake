# What every target of Waybill shares: language, warnings, sanitizers, and the rule that an include which climbs
# the house does not compile.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

set(WAYBILL_SANITIZE "" CACHE STRING "sanitizers for all targets: 'address,undefined' or 'thread'")

add_library(waybill_warnings INTERFACE)
target_compile_options(waybill_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla -Werror)
target_compile_definitions(waybill_warnings INTERFACE
  _GNU_SOURCE _FILE_OFFSET_BITS=64 WAYBILL_VERSION="${PROJECT_VERSION}")

add_compile_options(-fno-omit-frame-pointer -fstack-protector-strong)
if(WAYBILL_SANITIZE)
  add_compile_options(-fsanitize=${WAYBILL_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${WAYBILL_SANITIZE})
else()
  add_compile_definitions($<$<NOT:$<CONFIG:Debug>>:_FORTIFY_SOURCE=2>)
endif()
add_link_options(-Wl,-z,relro,-z,now)

# waybill_part(NAME SOURCES … USES …): the static library core/NAME. Its headers are seen as "NAME/x.h", and only by
# targets that link it: each part has an include root of its own that holds a link to its folder and nothing else.
function(waybill_part name)
  cmake_parse_arguments(PART "" "" "SOURCES;USES" ${ARGN})
  set(root ${CMAKE_BINARY_DIR}/include/${name})
  file(MAKE_DIRECTORY ${root})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${root}/${name} SYMBOLIC)
  add_library(${name} STATIC ${PART_SOURCES})
  target_include_directories(${name} PUBLIC ${root})
  target_link_libraries(${name} PRIVATE waybill_warnings ${PART_USES})
endfunction()
