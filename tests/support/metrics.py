"""What /metrics says, read by the parser of Prometheus' own client.

found = await scrape(sluice)
assert found.value("sluice_requests_total", model="m", provider="a", status="200") == 1
"""

from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway import Sluice


@dataclass
class Scrape:
    text: str
    families: dict[str, Metric]
    #: By the name of the sample and its labels.
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float | None:
        """Return a sample; None where there is none. A label `class_` is meant as `class`."""
        return self.samples.get(
            (name, frozenset((label.rstrip("_"), value) for label, value in labels.items()))
        )

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return all samples of a name, by these labels, which are all that it has."""
        found = [(dict(having), value) for (each, having), value in self.samples.items() if each == name]
        assert all(having.keys() == set(labels) for having, _ in found)
        return {tuple(having[label] for label in labels): value for having, value in found}

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of a name that have these labels, among others."""
        wanted = {(label.rstrip("_"), value) for label, value in labels.items()}
        return sum(
            value for (each, having), value in self.samples.items() if each == name and wanted <= having
        )

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values of a label in all samples of a name."""
        return {dict(having)[label] for each, having in self.samples if each == name}


def read(text: str) -> Scrape:
    """Read an exposition; no sample may stand there twice."""
    families = {}
    samples = {}
    for family in text_string_to_metric_families(text):
        assert family.name not in families, family.name
        families[family.name] = family
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, key
            samples[key] = sample.value
    return Scrape(text, families, samples)


async def scrape(sluice: Sluice) -> Scrape:
    answer = await sluice.admin.get("/metrics")
    assert answer.status_code == 200, answer.text
    return read(answer.text)
