"""``dglab bench``."""

import json

import pytest
import torch

from dglab import bench
from dglab.bench.measure import peak_memory
from dglab.utils.errors import InputError


@pytest.mark.parametrize("size", ["96", "96x", "x", "0x64", "96x16", "-96x96", "96x96x3", "96,96", "1e2x96"])
def test_bench_refuses_a_size_that_is_none(refused, size):
    refused(("bench", "testtime", "--size", size, "--device", "cpu"), repr(size), "HxW", "96x192")


def test_a_file_says_where_it_was_measured(call, tmp_path, monkeypatch, capsys):
    case = {"case": "plain", "seconds": 1.0, "spread": 0.1, "ratio": 1.0, "peak_mib": 1.0, "peak_ratio": 1.0}
    monkeypatch.setattr(bench, "run_bench", lambda *_: [case])
    path = tmp_path / "bench.json"
    assert call("bench", "testtime", "--size", "32x64", "--device", "cpu", "--json", path) == 0
    told = json.loads(path.read_text())
    assert told["cases"] == [case] and (told["model"], told["size"]) == ("thin", "32x64")
    assert "CPU cores" in told["machine"] and told["versions"]["torch"] == torch.__version__
    assert told["threads"] == torch.get_num_threads()


def test_bench_refuses_other_names(refused):
    refused(
        ("bench", "train", "--model", "vgg", "--size", "32x32", "--device", "cpu"), "unknown backbone 'vgg'", "thin"
    )
    with pytest.raises(InputError, match="unknown bench 'speed'; the benches are train, testtime"):
        bench.run_bench("speed", "thin", "32x32", "cpu")


def test_bench_widgets_takes_the_networks_that_ship(refused):
    refused(("bench", "widgets", "--model", "thin"), "the networks that ship", "leave --model, --size and --device out")


def test_bench_widgets_names_what_it_misses(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match="bench widgets needs (Chromium; none of chromium|Playwright)"):
        bench.bench_widgets()


def test_a_bench_visits_the_cases_in_turn_and_leaves_the_warmup_out():
    visits = []
    cases = {"plain": lambda: visits.append("plain"), "other": lambda: visits.append("other")}
    records = bench.measure(cases, device="cpu", rounds=5, warmup=2)
    assert visits[:14] == ["plain", "other"] * 7  # then once more each, for the memory
    assert [record["case"] for record in records] == ["plain", "other"]
    assert records[0]["ratio"] == 1 and all(record["seconds"] > 0 and record["spread"] >= 0 for record in records)


def test_peak_memory_counts_what_lives_at_the_same_time():
    mib = 2**20

    def case():
        a = torch.zeros(10 * mib // 4)
        b = a + 1  # 20 MiB
        del a
        c = b + 1  # 20 again
        return c.clone()[:0] + 1  # 30

    assert 30 * mib <= peak_memory(case, "cpu") < 31 * mib
