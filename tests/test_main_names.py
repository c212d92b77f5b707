"What `import discrete_diffusion as dd` gives."

import subprocess
import sys

import pytest

import discrete_diffusion as dd


@pytest.mark.parametrize("name", dd.__all__)
def test_a_main_name_is_there(name):
    assert getattr(dd, name) is not None
    assert name in dir(dd)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="'Unifrom'"):
        dd.Unifrom  # noqa: B018


def test_nothing_is_loaded_before_it_is_asked_for(root):
    code = "import sys, discrete_diffusion; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
