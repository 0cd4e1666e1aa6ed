"""The test-time methods by name, for the command line and the studies."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dglab.testtime.adabn import AdaBN, reestimate_statistics
from dglab.testtime.bank import ImageBank
from dglab.testtime.guarded import GuardedNormalization
from dglab.testtime.normalization import SourceNormalization, TargetNormalization
from dglab.testtime.reference import SourceReference
from dglab.utils.errors import InputError

BANK_POLICIES = {"qib": "queue", "sib": "style", "random": "random", "oracle": "oracle"}
TEST_METHODS = ("bn", "bn-reestimated", "tn", "adabn", "guarded", *BANK_POLICIES)


@dataclass(frozen=True)
class TestConfig:
    """How a trained network is tested: one of the paper's methods or a control, and its settings.

    Settings that a method does not have are None, so that equal tests are equal objects.
    """

    __test__ = False  # tells pytest that this is not a test class

    method: str = "bn"
    domains: tuple[str, ...] = ()  # letters of the domains tested on; several make one mixed stream
    batch_size: int | None = None  # M of TN and of the guard
    neighbors: int | None = None  # M of the bank
    capacity: int | None = None  # Q
    style_layer: str | int | None = None
    statistics: str | None = None  # of the bank: joint or cached
    test_seed: int | None = None  # of the order of arrival; None: as the data set lies
    prior: float | None = None  # of TN: the share of source statistics; None is 0, the paper's TN
    branch: str | None = None  # of a multimodal network: the modality whose classifier is tested; None: the fused one
    without: str | None = None  # of a multimodal network: a modality whose sensor has failed
    # how the target's images are changed, see dglab.data.doses and .shifts; of a domain beside itself every second one
    shift: str | None = None
    dose: float | None = None  # and by how much

    def __post_init__(self) -> None:
        if self.method not in TEST_METHODS:
            raise InputError(f"unknown test method {self.method!r}; the methods are {', '.join(TEST_METHODS)}")
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"the batch size is {self.batch_size}; expected 1 or more")
        if self.branch is not None and self.without is not None:
            raise InputError(
                "branch and without (--branch and --without) are both given; a branch sees its own modality alone: "
                "leave one out"
            )


def bn(domains: tuple[str, ...]) -> TestConfig:
    """Source BN."""
    return TestConfig("bn", domains)


def tn(domains: tuple[str, ...], batch_size: int, test_seed: int | None, *, prior: float | None = None) -> TestConfig:
    """TN over test batches of M images. With M = 1 the order of arrival has no effect, and ``test_seed`` is None."""
    seed = None if batch_size == 1 else test_seed
    return TestConfig("tn", domains, batch_size=batch_size, test_seed=seed, prior=prior)


def guarded(domains: tuple[str, ...], batch_size: int, test_seed: int | None) -> TestConfig:
    """The guarded default over test batches of M images."""
    return TestConfig("guarded", domains, batch_size=batch_size, test_seed=None if batch_size == 1 else test_seed)


def bank(
    method: str,
    domains: tuple[str, ...],
    test_seed: int | None,
    *,
    neighbors: int = 4,
    capacity: int = 128,
    style_layer: str | int | None = 1,
    statistics: str = "joint",
) -> TestConfig:
    """SIB, QIB, or one of the bank's controls, with the paper's defaults."""
    return TestConfig(method, domains, None, neighbors, capacity, style_layer, statistics, test_seed)


def build_predictor(
    test: TestConfig,
    model: nn.Module,
    *,
    target_batches: Callable[[], Iterable[Tensor]] | None = None,
    source_batches: Callable[[], Iterable[Tensor]] | None = None,
    reference: Callable[[], SourceReference | None] | None = None,
    seed: int = 0,
    resize: bool = False,
) -> Any:
    """The predictor of a test-time method.

    Args:
        test: the method and its settings.
        model: the trained network. ``bn-reestimated`` changes its running statistics in place.
        target_batches: for ``adabn``, the whole target set in batches.
        source_batches: for ``bn-reestimated``, batches of all source domains.
        reference: for ``guarded``, the source reference; without one it takes a fixed prior, and warns.
        seed: of a bank's random choices.
        resize: let a bank resize its images to the current one's size.

    Raises:
        InputError: if the images that a method needs are not given.
    """
    if test.method == "bn":
        return SourceNormalization(model)
    if test.method == "tn":
        return TargetNormalization(model, prior=test.prior or 0.0)
    if test.method == "guarded":
        return GuardedNormalization(model, None if reference is None else reference())
    if test.method == "adabn":
        if target_batches is None:
            raise InputError("adabn needs the target's images before testing; give them, or choose tn or sib")
        return AdaBN(model).fit(target_batches())
    if test.method == "bn-reestimated":
        if source_batches is None:
            raise InputError("bn-reestimated needs images of all source domains; give the data that trained the model")
        return SourceNormalization(reestimate_statistics(model, source_batches()))
    options = {"neighbors": test.neighbors, "capacity": test.capacity, "statistics": test.statistics}
    given = {name: value for name, value in options.items() if value is not None}
    return ImageBank(model, test.style_layer, policy=BANK_POLICIES[test.method], seed=seed, resize=resize, **given)
