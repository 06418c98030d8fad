"""virtme-ng, as bench/setup installs it: a fresh guest with Debian's cloud kernel and this machine's files as its root."""
import os

from measure import host
from measure.answer import WORD, first_answer


def measure(context):
    """→ a function that takes the seconds to a fresh guest's first answer, or None and why there is none."""
    vng = host.PLACE / "venv" / "bin" / "vng"
    kernels = sorted((host.PLACE / "kernel" / "boot").glob("vmlinuz-*")) if (host.PLACE / "kernel" / "boot").exists() else []
    if not vng.exists() or not kernels or not (host.PLACE / "bin" / "virtiofsd").exists():
        return None, "virtme-ng, virtiofsd or a kernel for it is missing: bench/setup"
    argv = context.prefix + [str(vng), "--disable-kvm", "--run", str(kernels[-1]), "--", "echo", WORD]
    path = f"{host.PLACE / 'venv' / 'bin'}:{host.PLACE / 'bin'}:{os.environ['PATH']}"
    return (lambda: first_answer(argv, os.environ | {"PATH": path})), ""
