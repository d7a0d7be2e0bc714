#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Reads metrics with the strict parser of Prometheus' own client, and says what is in them.

openmetrics.py FILE: one line `families N samples N exemplars N`; exit 1 with the reason when a line is not allowed.
Beyond what the parser checks: no family comes twice, no sample does, exemplars carry a trace id of 32 hex digits and lie
within their bucket.
"""
import re
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families


def check_exemplar(sample, lower):
    exemplar = sample.exemplar
    if not re.fullmatch('[0-9a-f]{32}', exemplar.labels.get('trace_id', '')):
        raise ValueError(f'trace id: {sample}')
    if exemplar.timestamp is None or float(exemplar.timestamp) < 1e9:
        raise ValueError(f'time: {sample}')
    if sample.name.endswith('_bucket') and not lower < exemplar.value <= float(sample.labels['le']):
        raise ValueError(f'outside of its bucket: {sample}')


def check(text):
    families, samples, exemplars = set(), set(), 0
    for family in text_string_to_metric_families(text):
        if family.name in families:
            raise ValueError(f'twice: {family.name}')
        families.add(family.name)
        if not family.documentation:
            raise ValueError(f'no help: {family.name}')
        lower = 0.0
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            if key in samples:
                raise ValueError(f'twice: {sample}')
            samples.add(key)
            if sample.exemplar:
                exemplars += 1
                check_exemplar(sample, lower)
            le = sample.labels.get('le', '+Inf')
            lower = float(le) if le != '+Inf' else 0.0
    return f'families {len(families)} samples {len(samples)} exemplars {exemplars}'


def main():
    with open(sys.argv[1], encoding='utf-8') as file:
        text = file.read()
    try:
        print(check(text))
    except ValueError as error:
        sys.exit(f'{sys.argv[1]}: {error}')


main()
