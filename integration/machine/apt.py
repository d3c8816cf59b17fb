"""Debian packages by the host's own configuration of apt: no address is written down here."""

import glob
import os
import subprocess

from . import Impossible, MachineError

FIELDS = "$(CREATED_BY)\t$(ORIGIN)\t$(REPO_URI)\t$(RELEASE)\t$(CODENAME)\t$(COMPONENT)"


def output(*command):
    """What a command prints; it has to succeed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise MachineError(f"{' '.join(command)}: {done.stderr[-2000:].strip()}")
    return done.stdout


def codename():
    """The release of the host, such as bookworm."""
    with open("/etc/os-release", encoding="utf-8") as file:
        fields = dict(line.rstrip().split("=", 1) for line in file if "=" in line)
    if fields.get("ID", "").strip('"') != "debian":
        raise Impossible("the guest is made from the host's apt sources, and this host is not Debian")
    return fields["VERSION_CODENAME"].strip('"')


def configuration():
    """The text of the host's sources."""
    for path in sorted(glob.glob("/etc/apt/sources.list") + glob.glob("/etc/apt/sources.list.d/*")):
        with open(path, encoding="utf-8", errors="replace") as file:
            yield file.read()


def sources(suite):
    """The host's Debian sources as lines of sources.list, for this release."""
    here, lines = codename(), []
    for row in output("apt-get", "indextargets", "--format", FIELDS).splitlines():
        kind, origin, uri, release, name, component = row.split("\t")
        if kind == "Packages" and origin == "Debian" and name.startswith(here):
            lines.append(f"deb {uri} {release.replace(here, suite, 1)} {component}")
    if not lines:
        raise Impossible(f"apt knows no Debian packages of {here}: apt-get update")
    return list(dict.fromkeys(lines))


class Apt:
    """apt with lists of its own, for the packages of another release than the host's."""

    def __init__(self, suite, scratch):
        self.root = os.path.join(scratch, "apt")
        for name in ("lists/partial", "cache/archives/partial", "etc/preferences.d"):
            os.makedirs(os.path.join(self.root, name))
        with open(os.path.join(self.root, "sources.list"), "w", encoding="utf-8") as file:
            file.write("\n".join(sources(suite)) + "\n")
        self.options = [word for name, value in (
            ("Dir::Etc::SourceList", f"{self.root}/sources.list"),
            ("Dir::Etc::SourceParts", "-"),
            ("Dir::State::Lists", f"{self.root}/lists"),
            ("Dir::Cache", f"{self.root}/cache"),
            ("APT::Sandbox::User", "root"),
            ("Acquire::Languages", "none"),
            ("Acquire::Retries", "3"),
        ) for word in ("-o", f"{name}={value}")]
        output("apt-get", "-qq", *self.options, "update")

    def dependency(self, package, prefix):
        """The package that another, empty one stands for."""
        for line in output("apt-cache", *self.options, "depends", package).splitlines():
            relation, _, name = line.strip().partition(": ")
            if relation == "Depends" and name.startswith(prefix):
                return name
        raise MachineError(f"{package} depends on no {prefix}…")

    def unpack(self, package, tree):
        """Downloads a package and unpacks it below a directory, without installing it."""
        archives = os.path.join(self.root, "cache/archives")
        here = os.getcwd()
        os.chdir(archives)
        try:
            output("apt-get", "-qq", *self.options, "download", package)
        finally:
            os.chdir(here)
        for name in os.listdir(archives):
            if name.startswith(package + "_"):
                output("dpkg", "-x", os.path.join(archives, name), tree)
