from pal_ds.training.logging.source_counters import SourceCounters
from tests.support.epoch_plans import mix_of, plan_of


def test_sources_are_counted_by_the_order_and_replaced_clips_as_they_come():
    plan = mix_of([[60], [20]], [1, 1], epoch_clips=80)
    counters = SourceCounters(plan)
    counters.add([{"source": 1, "key": "a"}, {"source": 1, "key": "b"}])
    assert counters.row(15) == {
        "source0_clips": 60,
        "source0_passes": 1.0,
        "source0_replaced": 0,
        "source1_clips": 60,
        "source1_passes": 3.0,
        "source1_replaced": 2,
    }


def test_one_set_has_no_figures_of_its_own():
    for plan in (plan_of([60]), mix_of([[60]], epoch_clips=120)):
        counters = SourceCounters(plan)
        counters.add([{"key": "a"}])
        assert counters.row(3) == {}
