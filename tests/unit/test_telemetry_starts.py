"""No value of any OTEL_* variable ends a start of telemetry, or hangs its end: one process starts and ends once for each."""

import json
import re
import subprocess
import sys

from shared.service.otel_variables import VARIABLES

NOWHERE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "PATH": ""}
SAMPLERS = ("always_off", "traceidratio", "parentbased_traceidratio", "jaeger_remote", "x")


def _cases() -> list[dict[str, str]]:
    cases = [{name: value} for name in VARIABLES for value in ("nonsense", "-1", "", "0", "none")]
    for name, kind in VARIABLES.items():
        if bounds := re.search(r"from (\d+) to (\d+)$", kind.takes):
            cases += [{name: bound} for bound in bounds.groups()]
        elif " or " in kind.takes:
            cases += [{name: value} for value in kind.takes.partition(";")[0].split(" or ")]
    cases += [
        {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": share}
        for sampler in SAMPLERS
        for share in ("0", "1", "1.5", "nan", "x", "")
    ]
    cases += [{"OTEL_PROPAGATORS": value} for value in ("b3", "tracecontext,xray", "baggage", "none,b3", ",")]
    return [*cases, dict.fromkeys(VARIABLES, "nonsense"), dict.fromkeys(VARIABLES, "")]


def test_no_value_of_any_variable_ends_a_start_or_hangs_an_end() -> None:
    cases = _cases()

    done = subprocess.run(
        [sys.executable, "-m", "tests.telemetry_starts"],
        env=NOWHERE,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )

    assert len(cases) > 400
    assert json.loads(done.stdout.splitlines()[-1]) == {}
    assert "Traceback" not in done.stderr
