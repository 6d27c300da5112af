"""`doctor`: what is wrong with an installation, and what to do about it. docs/operations.md, "doctor" """

import argparse
import asyncio
import sys
from collections.abc import Mapping

from proxy.cli.doctor.findings import FAIL, report
from proxy.cli.doctor.versions import module_findings, version_findings
from proxy.cli.output import Output
from proxy.cli.settings import config_path
from proxy.config.files import Files
from proxy.config.load import load
from proxy.config.problems import ConfigError

_BILLED = "Providers are asked now; these requests are billed like any other."


def doctor(args: argparse.Namespace, environ: Mapping[str, str]) -> Output:
    """Look at everything that can be looked at without changing it; with `--live` ask the providers, too."""
    modules = list(module_findings())
    found = [*version_findings(), *modules]
    if any(module.state == FAIL for module in modules):
        return report(found, usable=True)
    # These need the modules that were just found.
    from proxy.cli.doctor.installation import installation_findings, problem_findings
    from proxy.cli.doctor.live import live_findings

    files = Files()
    try:
        config = load(config_path(args, environ), environ, files=files)
    except ConfigError as error:
        return report([*found, *problem_findings(error)], usable=False)
    found += installation_findings(config, files.stamps)
    if args.live:
        sys.stderr.write(f"{_BILLED}\n")
        found += asyncio.run(live_findings(config))
    return report(found, usable=True)
