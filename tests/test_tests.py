"The tests themselves: which code they meet, and with how many threads."

import torch

import discrete_diffusion


def test_this_checkout_is_tested(root):
    assert discrete_diffusion.__file__.startswith(str(root))


def test_one_thread():
    assert torch.get_num_threads() == 1
