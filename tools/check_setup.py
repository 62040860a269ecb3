"""Can this computer run the lessons? One line for each thing they need, and what to do about it.

python tools/check_setup.py      or `make check`; it takes less than a minute and installs nothing

Exit code: 0 when every lesson can run here, 1 when something is missing.
It starts with any Python, also before the course is installed: it then says what to do first.
"""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# PyTorch has packages for these releases of Python and these processors, and for macOS from 14 on.
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
PROCESSORS = {"Linux": ("x86_64", "aarch64"), "Darwin": ("arm64",), "Windows": ("amd64",)}
OLDEST_MACOS = 14
GOOD, NOTE, MISSING = "good", "note", "MISSING"
GB = 1e9
# PyTorch for Linux brings the libraries of NVIDIA's GPUs. To run needs little: outputs and caches.
TO_INSTALL = {"Linux": 7 * GB}
TO_INSTALL_ELSEWHERE, TO_RUN = 3 * GB, 1 * GB
# A training takes up to 1.6 GB (benchmarks/README.md); the system and a browser need some too.
LEAST_MEMORY, EASY_MEMORY = 2 * GB, 4 * GB
# The longest cell of lesson 00 is a training on these numbers of images. A quarter of a pass is
# timed at once, so that a slow computer is known to be slow soon.
TRAIN_IMAGES, VALIDATION_IMAGES, PARTS = 11_165, 1_241, 4
SLOW = 1.75  # times the committed minutes
PATIENCE = 120  # seconds for a kernel or a server to start, on a computer that is busy


@dataclass(frozen=True)
class Finding:
    """What was found of one thing: GOOD, NOTE (the lessons run all the same) or MISSING."""

    thing: str
    state: str
    found: str
    advice: str = ""


def main():
    findings = []
    for finding in examine():
        print(line_of(finding), flush=True)
        findings.append(finding)
    missing = [f.thing for f in findings if f.state == MISSING]
    if missing:
        print(f"\nNot ready. Missing: {', '.join(missing)}.")
        return 1
    print("\nReady: every lesson can run on this computer.")
    return 0


def examine():
    """Yield one finding after the other; the later ones need what the earlier ones look for."""
    yield python_version(sys.version_info[:2])
    packages = installed_packages()
    installed = packages.state != MISSING
    yield system(platform.system(), machine(), platform.mac_ver()[0], installed)
    yield free_disk(shutil.disk_usage(ROOT).free, installed, platform.system())
    yield memory(total_memory())
    yield cores(available_cores())
    yield packages
    if installed:
        yield data()
        yield kernel()
        yield jupyterlab()
        yield speed(training_seconds(), *committed_seconds())


def line_of(finding):
    advice = f"\n{'':23}-> {finding.advice}" if finding.advice else ""
    return f"{finding.thing:<14} {finding.state:<8} {finding.found}{advice}"


# --- the computer


def python_version(version):
    found = "{}.{}".format(*version)
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return Finding("Python", GOOD, found)
    needed = "{}.{} to {}.{}".format(*OLDEST_PYTHON, *NEWEST_PYTHON)
    return Finding("Python", MISSING, found, f"install a Python from {needed}, and use that one")


def machine():
    """What this Python was made for, such as "x86_64". An emulated one needs packages for that."""
    if platform.system() == "Windows":
        return sysconfig.get_platform().replace("win-", "")
    return platform.machine()


def system(name, processor, macos, installed):
    """macos: its release, such as "14.5"; empty on another system."""
    found = f"macOS {macos} {processor}" if name == "Darwin" else f"{name} {processor}"
    has_package = processor in PROCESSORS.get(name, ())
    too_old = name == "Darwin" and int(macos.partition(".")[0] or 0) < OLDEST_MACOS
    # PyTorch may also come from elsewhere, such as conda-forge.
    if installed or (has_package and not too_old):
        return Finding("system", GOOD, found)
    if has_package:
        return Finding("system", MISSING, found, f"update macOS to {OLDEST_MACOS} or newer")
    advice = "use another computer: PyTorch has no package for this one"
    return Finding("system", MISSING, found, advice)


def free_disk(free, installed, system):
    """free: bytes on the disk of the course."""
    needed = TO_RUN if installed else TO_INSTALL.get(system, TO_INSTALL_ELSEWHERE)
    what = "to run" if installed else "to install"
    found = f"{free / GB:.1f} GB free, {needed / GB:.0f} GB needed {what}"
    if free >= needed:
        return Finding("free disk", GOOD, found)
    return Finding("free disk", MISSING, found, "delete files, or put the course on another disk")


def total_memory():
    """Bytes of memory, or None where nothing says so."""
    try:
        import psutil

        return psutil.virtual_memory().total
    except ImportError:  # not installed yet
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, ValueError, OSError):
            return None


def memory(total):
    if total is None:
        return Finding("memory", NOTE, "not known before the installation")
    found = f"{total / GB:.1f} GB"
    if total < LEAST_MEMORY:
        return Finding("memory", MISSING, found, "a training needs 2 GB; use another computer")
    if total < EASY_MEMORY:
        return Finding("memory", NOTE, found, "close other programs while a lesson trains")
    return Finding("memory", GOOD, found)


def available_cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores(count):
    if count >= 2:
        return Finding("cores", GOOD, str(count))
    return Finding("cores", NOTE, str(count), "trainings take about twice the committed minutes")


# --- what is installed


def installed_packages(python=sys.executable):
    """Import torch and the course in a process of its own: a broken library may end it."""
    code = (
        "import torch, torchvision, jupyterlab; from imbalkit.device import describe, pick_device;"
        "print(torch.__version__.split('+')[0] + ', ' + describe(pick_device()))"
    )
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True)
    if answer.returncode == 0:
        return Finding("torch", GOOD, answer.stdout.strip().splitlines()[-1])
    lines = answer.stderr.strip().splitlines()
    reason = lines[-1] if lines else f"its process ended with code {answer.returncode}"
    if reason.startswith("ModuleNotFoundError"):
        advice = "install the course: run 'make learn', or the lines of the README"
    else:
        advice = "delete the folder .venv and install again"
    return Finding("torch", MISSING, reason, advice)


def data():
    """Is CIFAR-10 where the lessons look first, and whole?"""
    from imbalkit.data import cifar_state, data_folders

    repair = "run 'make data', or 'imbalkit data'"
    for folder in data_folders():
        state = cifar_state(folder, "cifar10")
        if state == "ready":
            return Finding("data", GOOD, f"CIFAR-10 in {folder}")
        if state == "corrupt":
            found = f"CIFAR-10 in {folder} is damaged"
            return Finding("data", MISSING, found, f"{repair}; it replaces what is damaged")
    found = "CIFAR-10 is absent; the lessons would use the embedded set of digits"
    return Finding("data", NOTE, found, f"{repair}, where there is a network")


def kernel(name="python3"):
    """Start a notebook kernel, let it execute a cell, and see that it is this Python."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    notebook = new_notebook(cells=[new_code_cell("import imbalkit, sys; print(sys.prefix)")])
    client = NotebookClient(notebook, kernel_name=name, timeout=PATIENCE, startup_timeout=PATIENCE)
    try:
        client.execute(stderr=subprocess.DEVNULL)  # keeps its log out of our lines
        prefix = notebook.cells[0].outputs[0].text.strip()
    except Exception as error:  # of many kinds: no such kernel, a dead one, one that is silent
        reason = str(error).strip().splitlines()[-1]
        advice = "delete the folder .venv and install again"
        return Finding("kernel", MISSING, f"it does not start ({reason})", advice)
    if Path(prefix) != Path(sys.prefix):
        advice = f"run: {sys.executable} -m ipykernel install --sys-prefix"
        return Finding("kernel", MISSING, f"notebooks would run in {prefix}", advice)
    return Finding("kernel", GOOD, "starts and executes a cell")


def jupyterlab(module="jupyterlab"):
    """Start JupyterLab without a browser, ask it for its page, and end it."""
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", module, "--no-browser", "--allow-root", "--ServerApp.port=0"]
    command += [f"--ServerApp.root_dir={ROOT}"]
    # Every user of the computer can read the command of a process, and only its owner the
    # environment: whoever has the token has a shell.
    environment = os.environ | {"JUPYTER_TOKEN": token}
    log = tempfile.TemporaryFile()
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        url = wait_for_server(server, token)
        if url is None:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().rpartition("\n")[2]
            advice = "delete the folder .venv and install again"
            return Finding("JupyterLab", MISSING, f"it does not start ({last})", advice)
        ask(f"{url}lab", token)
        ask(f"{url}api/shutdown", token, method="POST")
        server.wait(timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        advice = "let no program shut off this computer's own address, 127.0.0.1"
        return Finding("JupyterLab", MISSING, f"it does not answer ({error})", advice)
    finally:
        server.kill()
        server.wait()
        log.close()
    return Finding("JupyterLab", GOOD, "starts and shows its page")


def wait_for_server(server, token):
    """The address of the server once it is up; None when it ends or takes too long."""
    from jupyter_server.serverapp import list_running_servers

    begin = time.monotonic()
    while server.poll() is None and time.monotonic() - begin < PATIENCE:
        time.sleep(0.2)
        try:
            urls = [found["url"] for found in list_running_servers() if found["token"] == token]
        except ValueError:  # a server is writing its note at this moment
            continue
        if urls:
            return urls[0]
    return None


def ask(url, token, method="GET"):
    headers = {"Authorization": f"token {token}"}
    request = urllib.request.Request(url, headers=headers, method=method)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    direct.open(request, timeout=PATIENCE).close()


# --- how fast it is


def committed_seconds():
    """Seconds of the longest cell of lesson 00 as committed, and what computed it.

    Those of this kind of processor, where they were measured.
    """
    from imbalkit.device import pick_device
    from timings import kind_of, read_timings

    kinds = read_timings()["00_start_here.ipynb"]
    lesson = kinds.get(kind_of(pick_device())) or next(iter(kinds.values()))
    return lesson["slowest_cell_seconds"], lesson["device"]


def training_seconds(budget=10.0):
    """Seconds of that cell's training here, from as many parts of it as fit into `budget` seconds.

    With images of noise: what they show makes no difference to the time.
    """
    import torch

    from imbalkit.course.profiles import current_profile
    from imbalkit.data import Batches, ImageSet, RandomCrop, RandomFlip
    from imbalkit.device import pick_device, synchronize
    from imbalkit.models import plain_cnn
    from imbalkit.training import fit

    device = pick_device()
    profile = current_profile(device)

    def batches(count, **options):
        noise = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8)
        names = tuple(f"class {c}" for c in range(10))
        images = ImageSet(noise, torch.arange(count) % 10, names, "noise")
        return Batches(images, mean=[0.5] * 3, std=[0.25] * 3, device=device, **options)

    model = plain_cnn(width=profile.width)
    augment = (RandomCrop(), RandomFlip())
    train = batches(TRAIN_IMAGES // PARTS, batch_size=128, shuffle=True, augment=augment)
    validation = batches(VALIDATION_IMAGES // PARTS, batch_size=1000)
    fit(model, batches(256, batch_size=128), 1, show_progress=False)  # the first steps are slow
    seconds = []
    while sum(seconds) < budget:
        begin = time.perf_counter()
        fit(model, train, 1, val_batches=validation, show_progress=False)
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
    epochs = round(0.6 * profile.epochs)  # as lesson 00 has it
    return epochs * PARTS * statistics.median(seconds)


def speed(seconds, committed, device):
    """Compare a training of `seconds` with the `committed` one, which `device` computed."""
    factor = seconds / committed
    found = (
        f"a lesson of 4 minutes takes about {4 * factor:.{0 if factor > 2.5 else 1}f} minutes here"
    )
    if factor <= SLOW:
        return Finding("speed", GOOD, found)
    advice = (
        f"the committed minutes are of {device}; close other programs, read the slow lessons with "
        "their committed results, and set IMBALKIT_PROFILE=cpu on a computer with a small GPU "
        "(docs/teaching.md)"
    )
    return Finding("speed", NOTE, found, advice)


if __name__ == "__main__":
    sys.exit(main())
