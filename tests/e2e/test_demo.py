"""The README's first promise: `lhd demo` shows the main job with real parts."""

import subprocess
import sys


def test_the_demo_ends_with_a_completed_run_that_has_the_events_payload() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "lhd", "demo"], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the run is COMPLETED with 'octocat made the branch feature-1'" in result.stdout
    assert "answered 401" in result.stdout
    assert "answered 202: accepted" in result.stdout
    assert "answered 200: duplicate" in result.stdout
    assert "outcome delivered" in result.stdout
    assert result.stderr == ""
