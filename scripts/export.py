"Everything that is generated: clean notebooks, the library from the notebooks, README.md from the index."
import readme
from nbdev.clean import nbdev_clean
from nbdev.doclinks import nbdev_export

if __name__ == "__main__":
    nbdev_clean.__wrapped__()       # before the export: cell ids go into the modules
    nbdev_export.__wrapped__()
    readme.write()
