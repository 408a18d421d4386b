"""A guest that boots Debian's kernel on the host's own files, for what the host's kernel cannot do.

    with Guest() as guest: code = guest.run([...], environment, timeout=300)

Nothing but apt's packages is needed: the kernel is fetched with `apt-get download` into .cache/vm (once per version of
the package), the root file system is the host's, read-only, below a tmpfs.  qemu emulates the processor, because a
writable /dev/kvm does not mean that it can run a stock kernel.  One boot takes about three seconds and runs one
command as root; its output, files that it leaves in $JOB and its exit code come back through a shared directory.
"""

import lzma
import os
import shlex
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".cache" / "vm"
JOB = Path("/run/job")  # inside the guest

# to mount the host's files; everything else is loaded by the kernel when it is asked for
FIRST_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_rng")
LEFT_OUT = ("drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/infiniband", "drivers/scsi", "drivers/usb",
            "drivers/iio", "drivers/staging", "drivers/hid", "drivers/input", "drivers/hwmon", "drivers/net/ethernet",
            "drivers/ata", "drivers/mtd", "drivers/mmc", "drivers/platform", "sound", "fs/xfs", "fs/btrfs", "fs/ocfs2")  # fmt: skip

# each of these makes an emulated boot shorter; together they halve it
FAST_BOOT = (
    "mitigations=off no5lvl apparmor=0 init_on_alloc=0 audit=0 tsc=reliable clocksource=tsc no_timer_check"
    " cryptomgr.notests nokaslr randomize_kstack_offset=off hardened_usercopy=off"
)


class GuestFailed(Exception):
    """The guest ended without a result; says what its console showed."""


@dataclass(frozen=True, slots=True)
class Kernel:
    image: Path
    modules: Path  # what belongs below /lib/modules/VERSION
    initrd: Path


def command(*argv: str, **options: object) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise GuestFailed(f"{shlex.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
    return str(done.stdout)


# -- the kernel ------------------------------------------------------------------------------------------------------


def kernel() -> Kernel:
    """Debian's current kernel, unpacked; downloaded when the cache has none of its version."""
    package = kernel_package()
    place = CACHE / package
    if not (place / "vmlinux").exists():
        fetch(package, place)
    make_initrd(place)  # anew each time: it is quick, and init may have changed
    modules = next((place / "lib" / "modules").iterdir())
    return Kernel(place / "vmlinux", modules, place / "initrd")


def kernel_package() -> str:
    """The package that linux-image-amd64 stands for at the moment, or the newest in the cache where apt knows none."""
    for line in command("apt-cache", "depends", "linux-image-amd64").splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends" and name.startswith("linux-image-"):
            return name
    if kept := sorted(path.name for path in CACHE.glob("linux-image-*")):
        return kept[-1]
    raise GuestFailed("apt knows no linux-image-amd64 (Debian's kernel for the guest): run `apt-get update`")


def fetch(package: str, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as name:
        work = Path(name)
        command("apt-get", "download", package, cwd=work)
        deb = next(work.glob("*.deb"))
        unpacked = work / "unpacked"
        unpacked.mkdir()
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as tar:
            leave_out = [f"--exclude=*/kernel/{path}" for path in LEFT_OUT]
            command("tar", "-x", "-C", str(unpacked), *leave_out, "./boot", "./lib/modules", stdin=tar.stdout)
        version = next((unpacked / "lib" / "modules").iterdir()).name
        command("depmod", "-b", str(unpacked), version)
        (unpacked / "vmlinux").write_bytes(decompressed((unpacked / "boot" / f"vmlinuz-{version}").read_bytes()))
        shutil.rmtree(unpacked / "boot")
        shutil.rmtree(place, ignore_errors=True)
        unpacked.rename(place)


def decompressed(image: bytes) -> bytes:
    """The kernel inside of a bzImage (Linux' Documentation/arch/x86/boot.rst: setup_sects, payload_offset, _length).

    Emulated, unpacking it at every boot would take longer than the rest of the boot.
    """
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if not payload.startswith(b"\xfd7zXZ\0"):
        raise GuestFailed(f"the kernel is packed in a way unknown to tests/vm (it begins with {payload[:6].hex()})")
    return lzma.LZMADecompressor().decompress(payload)


def make_initrd(root: Path) -> None:
    version = next((root / "lib" / "modules").iterdir()).name
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        for folder in ("bin", "dev", "proc", "modules", "host", "writes", "new"):
            (tree / folder).mkdir()
        shutil.copy(shutil.which("busybox") or "/bin/busybox", tree / "bin" / "busybox")
        shutil.copy(Path(__file__).with_name("init"), tree / "init")
        (tree / "init").chmod(0o755)
        for number, module in enumerate(modules_in_order(root, version)):
            shutil.copy(module, tree / "modules" / f"{number:02}-{module.name}")
        files = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
        with (root / "initrd").open("wb") as archive:
            subprocess.run(
                ["cpio", "-o", "-H", "newc", "--quiet"], input=files.encode(), stdout=archive, cwd=tree, check=True
            )


def modules_in_order(root: Path, version: str) -> list[Path]:
    """The files of FIRST_MODULES and of what they need, in the order of loading."""
    found: dict[Path, None] = {}
    for module in FIRST_MODULES:
        for line in command("modprobe", "-d", str(root), "-S", version, "--show-depends", module).splitlines():
            word, _, path = line.partition(" ")
            if word == "insmod":
                found[Path(path.split()[0])] = None
    return list(found)


# -- the guest -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    output: str
    job: Path  # what the command left in $JOB


def run(
    argv: Sequence[str],
    job: Path,
    environment: Mapping[str, str],
    timeout: float,
    memory: int = 2048,
) -> Result:
    """Boot, run one command as root in the project's directory, power off. `job` is shared with the guest at $JOB."""
    write_start(job, argv, environment)
    found = kernel()
    with (job / "console").open("wb") as console:
        qemu = subprocess.Popen(
            qemu_command(found, job, memory), stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT
        )
        try:
            qemu.wait(timeout)
        except subprocess.TimeoutExpired:
            raise GuestFailed(f"the guest took longer than {timeout:.0f} s\n{tail(job)}") from None
        finally:
            qemu.kill()
            qemu.wait()
    if not (job / "code").exists():
        raise GuestFailed(f"the guest ended without a result\n{tail(job)}")
    output = (job / "output").read_text(errors="replace")
    return Result(int((job / "code").read_text()), output, job)


def write_start(job: Path, argv: Sequence[str], environment: Mapping[str, str]) -> None:
    variables = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "JOB": str(JOB),
        **environment,
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines += [
        f"cd {shlex.quote(str(PROJECT))}",
        f"setsid {shlex.join(argv)} </dev/null >{JOB}/output 2>&1",
        f"echo $? >{JOB}/code.new; mv {JOB}/code.new {JOB}/code",
        "exec /run/busybox reboot -f",
    ]
    (job / "start").write_text("\n".join(lines) + "\n")


def qemu_command(kernel: Kernel, job: Path, memory: int) -> list[str]:
    shares = {
        "host": (Path("/"), ",readonly=on,multidevs=remap"),
        "modules": (kernel.modules, ",readonly=on"),
        "job": (job, ""),
    }
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "q35", "-display", "none", "-no-reboot"]
    argv += ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max", "-smp", str(min(2, os.cpu_count() or 1))]
    argv += ["-m", str(memory), "-kernel", str(kernel.image), "-initrd", str(kernel.initrd)]
    argv += ["-append", f"console=ttyS0 loglevel=4 panic=-1 oops=panic reboot=t net.ifnames=0 {FAST_BOOT}"]
    argv += ["-serial", "stdio", "-device", "virtio-rng-pci"]
    for tag, (path, options) in shares.items():
        argv += ["-fsdev", f"local,id={tag},path={path},security_model=none{options}"]
        argv += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return argv


def tail(job: Path, lines: int = 40) -> str:
    """The end of what the guest showed."""
    shown = []
    for name in ("output", "console"):
        if (job / name).exists():
            text = (job / name).read_text(errors="replace").replace("\x1b", "")
            shown += [f"-- {name}:", *text.splitlines()[-lines:]]
    return "\n".join(shown)
