"Everything that is generated: clean notebooks, the library and the list of exercises from the notebooks, README.md from the index."

import sys

import readme
from house import LIB, NBS, ROOT, write_atomically
from nbdev.clean import nbdev_clean
from nbdev.doclinks import nbdev_export

if __name__ == "__main__":
    nbdev_clean.__wrapped__()  # before the export: cell ids go into the modules
    nbdev_export.__wrapped__()
    sys.path.insert(0, str(ROOT))
    from discrete_diffusion.exercises import (
        collect_references,
    )  # what was exported just now

    write_atomically(LIB / "exercises.json", collect_references(NBS))
    readme.write()
