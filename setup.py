"Packaging: everything comes from settings.ini."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="])
config.read("settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]

setup(
    name=cfg["pip_name"], version=cfg["version"], description=cfg["description"], keywords=cfg["keywords"],
    author=cfg["author"], author_email=cfg["author_email"], url=cfg["git_url"], license="Apache-2.0",
    long_description=Path("README.md").read_text(encoding="utf-8"), long_description_content_type="text/markdown",
    packages=find_packages(include=[cfg["lib_path"] + "*"]), package_data={cfg["lib_path"]: ["weights/*.safetensors", "weights/weights.json", "results/*.json", "exercises.json"]},
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require={"learn": cfg["learn_requirements"].split(), "text": cfg["text_requirements"].split(),
                    "hub": cfg["hub_requirements"].split(),
                    "dev": (cfg["learn_requirements"] + " " + cfg["dev_requirements"]).split()},
    entry_points={"nbdev": [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]},
)
