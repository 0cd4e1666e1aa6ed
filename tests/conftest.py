import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=2, help="how often the test of killed runs kills its process")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """The same bits are promised for the same number of threads; and images this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
