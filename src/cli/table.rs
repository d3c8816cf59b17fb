//! The command line of `tare`, as data. Names and meanings are runc's where runc has them.

use super::flags::{Arg, Flag, Verb, option, switch};

/// What stands before the command.
pub const GLOBAL: &[Flag] = &[
    option("root", "DIR", "directory of the container states (default: /run/tare)"),
    switch("debug", "log debug messages too"),
    option("log", "FILE", "write log lines to FILE (default: standard error)"),
    option("log-format", "FORMAT", "format of log lines: text or json (default: text)"),
    switch("systemd-cgroup", "let systemd make cgroups; cgroupsPath is then slice:prefix:name"),
    option("rootless", "WHEN", "tolerate missing cgroup permissions: true, false or auto"),
    option("criu", "PATH", "criu for checkpoint and restore (default: the one in $PATH)"),
    switch("version", "print the version").letter('v'),
];

const ID: Arg = Arg { name: "ID", required: true, many: false, help: "name of the container" };

const BUNDLE: Flag =
    option("bundle", "DIR", "directory of config.json (default: the current one)").letter('b');

const PROCESS: &[Flag] = &[
    option("console-socket", "PATH", "AF_UNIX socket that receives the terminal's master"),
    option("pidfd-socket", "PATH", "AF_UNIX socket that receives a pidfd of the process"),
    option("pid-file", "FILE", "write the process id to FILE"),
    option("preserve-fds", "N", "pass N more file descriptors after stdio and $LISTEN_FDS"),
    option("trace", "FILE", "write the time of every step to FILE, in Chrome's trace format"),
];

const CREATE: &[Flag] = &[
    BUNDLE,
    switch("no-pivot", "use MS_MOVE and chroot instead of pivot_root (root on a ramdisk)"),
    switch("no-new-keyring", "keep the caller's session keyring"),
];

const RUN: &[Flag] = &[
    switch("detach", "do not wait for the container's process").letter('d'),
    switch("keep", "do not delete the container after it has ended"),
    switch("no-subreaper", "do not become the reaper of orphaned processes"),
];

const EXEC: &[Flag] = &[
    switch("detach", "do not wait for the process").letter('d'),
    switch("tty", "give the process a terminal").letter('t'),
    option("process", "FILE", "read the process from a JSON file").letter('p'),
    option("cwd", "DIR", "working directory in the container"),
    option("env", "NAME=VALUE", "set an environment variable (repeatable)").letter('e'),
    option("user", "UID[:GID]", "user and group of the process").letter('u'),
    option("additional-gids", "GID", "add a group (repeatable)").letter('g'),
    option("process-label", "LABEL", "SELinux label of the process"),
    option("apparmor", "PROFILE", "AppArmor profile of the process"),
    switch("no-new-privs", "set no_new_privs"),
    option("cap", "CAP", "add a capability (repeatable)").letter('c'),
    option("cgroup", "[CONTROLLER:]PATH", "run in an existing sub-cgroup (repeatable)"),
    switch("ignore-paused", "allow exec in a paused container"),
];

const UPDATE: &[Flag] = &[
    option("resources", "FILE", "take all limits from a JSON file, or from stdin if it is -")
        .letter('r'),
    option("blkio-weight", "N", "share of disk time, 10 to 1000"),
    option("cpu-period", "US", "length of a period for cpu-quota, in microseconds"),
    option("cpu-quota", "US", "processor time per period, in microseconds; -1 for no limit"),
    option("cpu-burst", "US", "unused quota that may be saved up, in microseconds"),
    option("cpu-share", "N", "share of processor time, 2 to 262144"),
    option("cpu-idle", "0|1", "1 gives it only time that nobody else wants"),
    option("cpu-rt-period", "US", "length of a period for cpu-rt-runtime, in microseconds"),
    option("cpu-rt-runtime", "US", "real-time processor time per period, in microseconds"),
    option("cpuset-cpus", "LIST", "processors, such as 0-3,7"),
    option("cpuset-mems", "LIST", "memory nodes, such as 0-1"),
    option("memory", "BYTES", "memory limit, such as 50M; -1 for none"),
    option("memory-reservation", "BYTES", "memory that is left alone under pressure"),
    option("memory-swap", "BYTES", "limit of memory and swap together; -1 for none"),
    option("kernel-memory", "BYTES", "accepted for callers of runc: obsolete, without effect"),
    option("kernel-memory-tcp", "BYTES", "accepted for callers of runc: obsolete, without effect"),
    option("pids-limit", "N", "number of tasks; -1 for no limit"),
    option("l3-cache-schema", "SCHEMA", "Intel RDT share of the L3 cache, such as L3:0=7f0;1=f"),
    option("mem-bw-schema", "SCHEMA", "Intel RDT memory bandwidth, such as MB:0=20;1=70"),
];

const EVENTS: &[Flag] = &[
    option("interval", "TIME", "time between two prints of the usage (default: 5s)"),
    switch("stats", "print the usage once and exit"),
];

const CRIU: &[Flag] = &[
    option("image-path", "DIR", "folder of the images (default: checkpoint)"),
    option("work-path", "DIR", "folder of criu's log (default: that of the images)"),
    switch("tcp-established", "with established TCP connections"),
    switch("ext-unix-sk", "with UNIX sockets to processes outside"),
    switch("shell-job", "with a terminal that belongs to somebody outside"),
    switch("file-locks", "with file locks"),
    switch("lazy-pages", "fetch memory when it is touched"),
    switch("auto-dedup", "drop memory from older images that newer ones have"),
    option("manage-cgroups-mode", "MODE", "soft, full, strict or ignore (default: soft)"),
    option("empty-ns", "NAMESPACE", "leave the contents of a namespace to others: network"),
];

const CHECKPOINT: &[Flag] = &[
    switch("leave-running", "let the container go on"),
    switch("pre-dump", "save memory only, and let the container go on"),
    option("parent-path", "DIR", "folder of the images before, relative to those of this one"),
    option(
        "page-server",
        "ADDRESS:PORT",
        "send memory to another criu, or serve it for lazy-pages",
    ),
    option("status-fd", "N", "descriptor that gets a zero byte once lazy-pages is ready"),
    switch("tcp-skip-in-flight", "without TCP connections that are being made"),
    switch("link-remap", "make links for files that were removed while they are open"),
];

const RESTORE: &[Flag] = &[
    BUNDLE,
    switch("detach", "do not wait for the container's process").letter('d'),
    switch("no-subreaper", "do not become the reaper of orphaned processes"),
    switch("no-pivot", "accepted for callers of runc: criu knows what to do"),
    option("console-socket", "PATH", "AF_UNIX socket that receives the terminal's master"),
    option("pid-file", "FILE", "write the process id to FILE"),
    option("lsm-profile", "TYPE:LABEL", "label of the processes, such as apparmor:NAME"),
    option("lsm-mount-context", "CONTEXT", "SELinux context of mounts that have one"),
];

const FORMAT: Flag = option("format", "FORMAT", "table or json (default: table)").letter('f');

/// The text of `tare --help`.
pub const HELP: &str = include_str!("help/tare.txt");

/// All commands, in the order of the help text.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "create",
        about: "create a container",
        details: "Makes the container that DIR/config.json describes, up to the point where its \
                  process waits for start. Nothing of it is left if this fails.",
        args: &[ID],
        flags: &[CREATE, PROCESS],
        stops: false,
        help: include_str!("help/create.txt"),
    },
    Verb {
        name: "start",
        about: "release the process of a created container",
        details: "Where $NOTIFY_SOCKET was set for create and is for start, as in a service of the \
                  type notify, the container has a socket of its own there, and start returns \
                  once it has said that it is ready (sd_notify(3)). So does run --detach.",
        args: &[ID],
        flags: &[],
        stops: false,
        help: include_str!("help/start.txt"),
    },
    Verb {
        name: "run",
        about: "create and start a container",
        details: "Waits for the container's process and exits with its code, or with 128 plus \
                  the number of the signal that ended it; the container is deleted then. With \
                  --detach it returns after the start.",
        args: &[ID],
        flags: &[CREATE, RUN, PROCESS],
        stops: false,
        help: include_str!("help/run.txt"),
    },
    Verb {
        name: "exec",
        about: "run another process in a container",
        details: "Options stand before ID: all that follows ID is the command. Exits with the \
                  code of the process, with 255 if it could not be run.",
        args: &[
            ID,
            Arg { name: "COMMAND", required: false, many: true, help: "program and arguments" },
        ],
        flags: &[EXEC, PROCESS],
        stops: true,
        help: include_str!("help/exec.txt"),
    },
    Verb {
        name: "state",
        about: "print the state of a container as JSON",
        details: "",
        args: &[ID],
        flags: &[],
        stops: false,
        help: include_str!("help/state.txt"),
    },
    Verb {
        name: "list",
        about: "list containers",
        details: "",
        args: &[],
        flags: &[&[FORMAT, switch("quiet", "print ids only").letter('q')]],
        stops: false,
        help: include_str!("help/list.txt"),
    },
    Verb {
        name: "ps",
        about: "show the processes of a container",
        details: "All that follows ID goes to ps(1); without it, ps runs with -ef. Its lines are \
                  filtered by process id.",
        args: &[
            ID,
            Arg { name: "PS-OPTION", required: false, many: true, help: "options of ps(1)" },
        ],
        flags: &[&[FORMAT]],
        stops: true,
        help: include_str!("help/ps.txt"),
    },
    Verb {
        name: "kill",
        about: "send a signal to a container",
        details: "SIGNAL is a number or a name with or without SIG; without it, SIGTERM is sent. \
                  A container that shares another's pid namespace is killed whole by SIGKILL.",
        args: &[
            ID,
            Arg { name: "SIGNAL", required: false, many: false, help: "such as 9, KILL, SIGKILL" },
        ],
        flags: &[&[switch("all", "send the signal to all processes of the container").letter('a')]],
        stops: false,
        help: include_str!("help/kill.txt"),
    },
    Verb {
        name: "delete",
        about: "remove a stopped or created container",
        details: "",
        args: &[ID],
        flags: &[&[switch("force", "kill a running one; a missing one is no error").letter('f')]],
        stops: false,
        help: include_str!("help/delete.txt"),
    },
    Verb {
        name: "pause",
        about: "suspend all processes of a container",
        details: "",
        args: &[ID],
        flags: &[],
        stops: false,
        help: include_str!("help/pause.txt"),
    },
    Verb {
        name: "resume",
        about: "resume a paused container",
        details: "",
        args: &[ID],
        flags: &[],
        stops: false,
        help: include_str!("help/resume.txt"),
    },
    Verb {
        name: "update",
        about: "change the limits of a container",
        details: "What is not named stays as it is. With --resources, the file holds an object like \
                  linux.resources in config.json, and the other options are not used.",
        help: include_str!("help/update.txt"),
        args: &[ID],
        flags: &[UPDATE],
        stops: false,
    },
    Verb {
        name: "events",
        about: "print what a container uses, and when it runs out of memory",
        details: "One JSON object a line, until the container is deleted or, on cgroup v2, ends.",
        help: include_str!("help/events.txt"),
        args: &[ID],
        flags: &[EVENTS],
        stops: false,
    },
    Verb {
        name: "checkpoint",
        about: "save a running container to disk",
        details: "criu(8) writes images of its processes, from which restore makes them again. \
                  The container is deleted then, unless it is to go on.",
        help: include_str!("help/checkpoint.txt"),
        args: &[ID],
        flags: &[CRIU, CHECKPOINT],
        stops: false,
    },
    Verb {
        name: "restore",
        about: "make a container from a checkpoint",
        details: "Waits for the container's process like run, and exits with its code; with \
                  --detach it returns once the processes run.",
        help: include_str!("help/restore.txt"),
        args: &[ID],
        flags: &[CRIU, RESTORE],
        stops: false,
    },
    Verb {
        name: "spec",
        about: "write a config.json to start from",
        details: "An existing config.json is never overwritten.",
        args: &[],
        flags: &[&[BUNDLE, switch("rootless", "for use without root privileges")]],
        stops: false,
        help: include_str!("help/spec.txt"),
    },
    Verb {
        name: "features",
        about: "print what this runtime implements, as JSON",
        details: "The document is that of the runtime specification's features.md.",
        args: &[],
        flags: &[],
        stops: false,
        help: include_str!("help/features.txt"),
    },
    Verb {
        name: "explain",
        about: "print what run would do, without doing it",
        details: "Every step in order, with the place in config.json that orders it. Needs no \
                  privilege and changes nothing.",
        args: &[Arg { name: "ID", required: false, many: false, help: "name of the container" }],
        flags: &[&[BUNDLE, switch("json", "print JSON")]],
        stops: false,
        help: include_str!("help/explain.txt"),
    },
    Verb {
        name: "doctor",
        about: "print what this host can do, and what in a bundle will fail for it",
        details: "Nothing is tried out. Exits with 1 if the host cannot run containers, or not the \
                  one of BUNDLE.",
        args: &[Arg {
            name: "BUNDLE",
            required: false,
            many: false,
            help: "directory of config.json",
        }],
        flags: &[],
        stops: false,
        help: include_str!("help/doctor.txt"),
    },
];
