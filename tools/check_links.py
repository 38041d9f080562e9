#!/usr/bin/python3
"""Checks that what the pages of this repository link to is there. Prints each link that leads nowhere; ends with 1 then.

    tools/check_links.py [PAGE …]      without pages: every .md file that git knows of
"""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)  # holds no links


def pages():
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, check=True).stdout.splitlines()
    return [path for path in (os.path.join(ROOT, name) for name in listed) if os.path.exists(path)]


def broken_links(page):
    with open(page, encoding="utf-8") as file:
        text = file.read()
    text = CODE.sub(lambda code: "`" + "\n" * code[0].count("\n") + "`", text)  # lines keep their numbers
    for link in LINK.finditer(text):
        target = link[1].split("#")[0]
        if target and not re.match(r"[a-z]+:", target) and not os.path.exists(os.path.join(os.path.dirname(page), target)):
            yield text.count("\n", 0, link.start()) + 1, link[1]


def main():
    found = 0
    for page in sys.argv[1:] or pages():
        for line, target in broken_links(page):
            found += 1
            print(f"{os.path.relpath(page, ROOT)}:{line}: there is no {target}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
