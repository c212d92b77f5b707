"""The library of the course. `import discrete_diffusion as dd` gives the main
names, each loaded from its chapter's module when it is first asked for; a
module has all of its own: `from discrete_diffusion.forward import *`.

Written by hand, unlike the modules beside it, which come from the notebooks."""

from importlib import import_module

__version__ = "0.0.1"

_MAIN = {
    "core": "seed_everything draw door Time",
    "worlds": "World xor_world random_world MarkovSource all_states kl tv "
    "frequency_test",
    "data": "load_digits load_text CharTokenizer",
    "forward": "Schedule linear_schedule cosine_schedule polynomial_schedule "
    "geometric_schedule betas_schedule Kernel Redraw Uniform Absorbing "
    "MatrixKernel gaussian_kernel neighbour_kernel",
    "posterior": "posterior_draw reverse_mixture reverse_eq4 full_from_loo",
    "losses": "bound exact_bound nats_to_bits oracle",
    "models": "DigitNet",
    "training": "TrainConfig fit",
    "sampling": "Sample sample sampler_law ancestral Moment hold",
    "evaluation": "Bits bits_per_dim difference",
    "d3pm": "D3PM MaskedD3PM train_digits",
    "ctmc": "tweedie euler",
    "transformer": "TextNet train_text NextLetter",
    "sedd": "ScoreEntropy",
    "mdlm": "MaskedText",
    "flow": "FlowMatching",
    "samplers": "way_back first_hitting unmask unmask_law remask gibbs "
    "hold_all",
    "decode": "staircase best_counts reveal entropy_bounded",
    "blocks": "BlockNet BlockText",
    "control": "Guided Particles carry",
    "pretrained": "save_pretrained load_pretrained pretrained_names",
}
_MODULE_OF = {name: module for module in _MAIN for name in _MAIN[module].split()}
__all__ = sorted(_MODULE_OF)


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULE_OF[name]}")
    return getattr(module, name)


def __dir__():
    return sorted({*globals(), *_MODULE_OF})
