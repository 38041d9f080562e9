"""The static libraries of the parts."""

import subprocess
from collections import defaultdict

from lib import bin_dir


def test_no_name_is_defined_by_two_parts():
    """The linker would take the one that it meets first, whatever the other one's signature is."""
    definers = defaultdict(set)
    libraries = sorted((bin_dir().parent / "core").glob("*/lib*.a"))
    assert len(libraries) > 5, libraries
    for library in libraries:
        listed = subprocess.run(["nm", "--extern-only", "--defined-only", library], capture_output=True, text=True, timeout=60, check=True)
        for line in listed.stdout.splitlines():
            words = line.split()
            if len(words) == 3 and not words[2].startswith("_"):
                definers[words[2]].add(library.name)
    assert len(definers) > 100
    assert {name: parts for name, parts in definers.items() if len(parts) > 1} == {}
