import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """The same bits are promised for the same number of threads; and images this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
