//! The mistakes whose golden texts tests/config.rs compares.

/// The case's name, what is taken out of the default configuration, and what is put in its place.
pub const CASES: &[(&str, &str, &str)] = &[
    // Not JSON.
    ("syntax-missing-comma", "\"terminal\": true,", "\"terminal\": true"),
    ("syntax-trailing-comma", "\"TERM=xterm\"", "\"TERM=xterm\","),
    ("syntax-quotes-missing", "\"cwd\": \"/\"", "\"cwd\": /"),
    ("syntax-comment", "\"hostname\"", "// the name\n\t\"hostname\""),
    ("syntax-after-the-end", "\n}", "\n}}"),
    ("syntax-before-a-wrong-type", "\"root\": {", "\"root\": 1 {"),
    ("syntax-single-quotes", "\"sh\"", "'sh'"),
    ("byte-order-mark", "{\n\t\"ociVersion\"", "\u{feff}{\n\t\"ociVersion\""),
    // Wrong types.
    ("type-uid-string", "\"uid\": 0", "\"uid\": \"1000\""),
    ("type-uid-name", "\"uid\": 0", "\"uid\": \"root\""),
    ("type-gid-negative", "\"gid\": 0", "\"gid\": -1"),
    ("type-args-string", "\"args\": [\n\t\t\t\"sh\"\n\t\t]", "\"args\": \"sh -c 'sleep 1'\""),
    ("type-arg-number", "\"sh\"", "\"sleep\",\n\t\t\t10"),
    ("type-terminal-string", "\"terminal\": true", "\"terminal\": \"true\""),
    ("type-root-string", "\"path\": \"rootfs\",", "\"path\": [\"rootfs\"],"),
    ("type-limit-overflow", "\"hard\": 1024", "\"hard\": 18446744073709551616"),
    ("type-limit-fraction", "\"hard\": 1024", "\"hard\": 10.5"),
    (
        "type-object-array",
        "\"user\": {\n\t\t\t\"uid\": 0,\n\t\t\t\"gid\": 0\n\t\t}",
        "\"user\": [0, 0]",
    ),
    ("type-mounts-object", "\"mounts\": [", "\"annotations\": {\"a.b\": 1},\n\t\"mounts\": ["),
    ("syntax-two-values", "{\n\t\"ociVersion\": \"1.3.0\",", "[],\n{"),
    // Members that are missing, double or unknown.
    ("missing-version", "\"ociVersion\": \"1.3.0\",\n\t", ""),
    ("missing-cwd", "\"cwd\": \"/\",\n\t\t", ""),
    ("missing-uid", "\"uid\": 0,\n\t\t\t", ""),
    ("missing-user", "\"user\": {\n\t\t\t\"uid\": 0,\n\t\t\t\"gid\": 0\n\t\t},", ""),
    ("missing-destination", "\"destination\": \"/proc\",\n\t\t\t", ""),
    (
        "annotation-without-name",
        "\"mounts\": [",
        "\"annotations\": {\"\": \"x\"},\n\t\"mounts\": [",
    ),
    ("missing-root", "\"root\"", "\"rot\""),
    (
        "double-hostname",
        "\"hostname\": \"runc\"",
        "\"hostname\": \"runc\",\n\t\"hostname\": \"größe\"",
    ),
    ("unknown-members", "\"readonly\": true", "\"readOnly\": true,\n\t\t\"größe\": {\"a\": []}"),
    // What nothing reads may be anything that is JSON.
    (
        "unknown-oddities",
        "\"hostname\"",
        "\"far\": [[[[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]]]],\n\t\"big\": 1e999,\n\t\"half\": \"\\ud800\",\n\t\"hostname\"",
    ),
    ("type-half-a-pair", "\"hostname\": \"runc\"", "\"hostname\": \"\\ud800\""),
    ("type-out-of-range", "\"hard\": 1024", "\"hard\": 1e999"),
    (
        "console-size-without-terminal",
        "\"terminal\": true",
        "\"consoleSize\": {\"height\": 70000},\n\t\t\"terminal\": false",
    ),
    (
        "console-size-range",
        "\"terminal\": true",
        "\"consoleSize\": {\"height\": 70000},\n\t\t\"terminal\": true",
    ),
    // The version and the process.
    ("version-word", "\"1.3.0\"", "\"latest\""),
    ("version-too-new", "\"1.3.0\"", "\"2.0.0\""),
    ("args-empty", "\"args\": [\n\t\t\t\"sh\"\n\t\t]", "\"args\": []"),
    ("cwd-relative", "\"cwd\": \"/\"", "\"cwd\": \"srv/www\""),
    ("cwd-empty", "\"cwd\": \"/\"", "\"cwd\": \"\""),
    ("env-without-equals", "\"TERM=xterm\"", "\"TERM\""),
    ("umask-octal-as-decimal", "\"gid\": 0", "\"gid\": 0,\n\t\t\t\"umask\": 7777"),
    ("uid-minus-one", "\"uid\": 0", "\"uid\": 4294967295"),
    ("group-minus-one", "\"gid\": 0", "\"gid\": 0,\n\t\t\t\"additionalGids\": [5, 4294967295]"),
    ("rlimit-unknown", "RLIMIT_NOFILE", "RLIMIT_NOFILES"),
    ("rlimit-soft-above-hard", "\"soft\": 1024", "\"soft\": 4096"),
    (
        "rlimit-twice",
        "\"soft\": 1024\n\t\t\t}",
        "\"soft\": 1024\n\t\t\t},\n\t\t\t{\"type\": \"RLIMIT_NOFILE\", \"hard\": 1, \"soft\": 1}",
    ),
    ("oom-score-range", "\"terminal\": true", "\"oomScoreAdj\": 1001"),
    ("scheduler-policy", "\"terminal\": true", "\"scheduler\": {\"policy\": \"SCHED_FIFE\"}"),
    (
        "scheduler-nice",
        "\"terminal\": true",
        "\"scheduler\": {\"policy\": \"SCHED_OTHER\", \"nice\": 20}",
    ),
    (
        "scheduler-priority",
        "\"terminal\": true",
        "\"scheduler\": {\"policy\": \"SCHED_BATCH\", \"priority\": 1}",
    ),
    (
        "scheduler-priority-range",
        "\"terminal\": true",
        "\"scheduler\": {\"policy\": \"SCHED_FIFO\", \"priority\": 200}",
    ),
    (
        "io-priority-class",
        "\"terminal\": true",
        "\"ioPriority\": {\"class\": \"IOPRIO_CLASS_NONE\"}",
    ),
    (
        "io-priority-range",
        "\"terminal\": true",
        "\"ioPriority\": {\"class\": \"IOPRIO_CLASS_BE\", \"priority\": 8}",
    ),
    ("cpu-affinity", "\"terminal\": true", "\"execCPUAffinity\": {\"initial\": \"0-\"}"),
    // Root, mounts, hooks.
    ("root-path-empty", "\"path\": \"rootfs\"", "\"path\": \"\""),
    ("mount-destination-empty", "\"destination\": \"/proc\"", "\"destination\": \"\""),
    ("mount-without-type", "\"type\": \"mqueue\",\n\t\t\t", ""),
    (
        "bind-without-source",
        "\"source\": \"mqueue\",\n\t\t\t\"options\": [",
        "\"options\": [\n\t\t\t\t\"rbind\",",
    ),
    (
        "idmap-half",
        "\"source\": \"proc\"",
        "\"source\": \"/srv\", \"options\": [\"bind\", \"idmap\"],\n\t\t\t\"uidMappings\": [{\"containerID\": 0, \"hostID\": 0, \"size\": 1}]",
    ),
    (
        "hook-path-relative",
        "\"hostname\"",
        "\"hooks\": {\"prestart\": [{\"path\": \"/bin/true\"}, {\"path\": \"setup.sh\"}]},\n\t\"hostname\"",
    ),
    (
        "hook-timeout-zero",
        "\"hostname\"",
        "\"hooks\": {\"poststop\": [{\"path\": \"/bin/true\", \"timeout\": 0}]},\n\t\"hostname\"",
    ),
    (
        "hook-env-without-equals",
        "\"hostname\"",
        "\"hooks\": {\"poststop\": [{\"path\": \"/bin/true\", \"env\": [\"A=1\", \"TOP\"]}]},\n\t\"hostname\"",
    ),
    (
        "hook-env-nul",
        "\"hostname\"",
        "\"hooks\": {\"poststop\": [{\"path\": \"/bin/true\", \"env\": [\"A=secret\\u0000\"]}]},\n\t\"hostname\"",
    ),
    // Namespaces and what needs them.
    ("namespace-unknown", "\"type\": \"network\"", "\"type\": \"net\""),
    ("namespace-slip", "\"type\": \"network\"", "\"type\": \"networks\""),
    ("namespace-twice", "\"type\": \"network\"", "\"type\": \"pid\""),
    (
        "namespace-path-relative",
        "\"type\": \"network\"",
        "\"type\": \"network\",\n\t\t\t\t\"path\": \"run/net\"",
    ),
    ("hostname-of-the-host", "\"type\": \"uts\"", "\"type\": \"cgroup\""),
    (
        "hostname-too-long",
        "\"hostname\": \"runc\"",
        "\"hostname\": \"a-name-that-goes-on-and-on-until-no-kernel-would-ever-take-it-whole\"",
    ),
    ("user-without-mappings", "\"type\": \"network\"", "\"type\": \"user\""),
    (
        "mappings-without-user",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"uidMappings\": [{\"containerID\": 0, \"hostID\": 1000, \"size\": 1}],",
    ),
    ("masked-without-mount", "\"type\": \"mount\"", "\"type\": \"cgroup\""),
    ("masked-relative", "\"/proc/acpi\"", "\"proc/acpi\""),
    (
        "sysctl-of-the-host",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"sysctl\": {\"vm.swappiness\": \"10\"},",
    ),
    (
        "sysctl-climbs",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"sysctl\": {\"net/../kernel/panic\": \"1\"},",
    ),
    (
        "sysctl-hostname",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"sysctl\": {\"kernel.hostname\": \"web\"},",
    ),
    (
        "time-offsets-alone",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"timeOffsets\": {\"monotonic\": {\"secs\": 5}},",
    ),
    // The rest of linux.
    (
        "device-type",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"devices\": [{\"path\": \"/dev/kmsg\", \"type\": \"char\", \"major\": 1, \"minor\": 11}],",
    ),
    (
        "device-path",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"devices\": [{\"path\": \"kmsg\", \"type\": \"c\", \"major\": 1, \"minor\": 11}],",
    ),
    (
        "device-without-minor",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"devices\": [{\"path\": \"/dev/kmsg\", \"type\": \"c\", \"major\": 1}],",
    ),
    (
        "propagation-unknown",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"rootfsPropagation\": \"rslaves\",",
    ),
    (
        "personality-domain",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"personality\": {\"domain\": \"BSD\"},",
    ),
    (
        "memory-policy-mode",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"memoryPolicy\": {\"nodes\": \"0-7\"},",
    ),
    (
        "memory-policy-nodes",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"memoryPolicy\": {\"mode\": \"MPOL_BIND\", \"nodes\": \"0-9876543210\"},",
    ),
    (
        "memory-policy-flag",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"memoryPolicy\": {\"mode\": \"MPOL_BIND\", \"nodes\": \"0\", \"flags\": [\"badflag\"]},",
    ),
    (
        "memory-policy-default-nodes",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"memoryPolicy\": {\"mode\": \"MPOL_DEFAULT\", \"nodes\": \"0-7\"},",
    ),
    ("rdt-class", "\"linux\": {", "\"linux\": {\n\t\t\"intelRdt\": {\"closID\": \"../x\"},"),
    (
        "rdt-bandwidth",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"intelRdt\": {\"memBwSchema\": \"L3:0=f\"},",
    ),
    (
        "rdt-lines",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"intelRdt\": {\"schemata\": [\"L2:0=f\", \"L3:0=f\\nMB:0=20\"]},",
    ),
    (
        "net-device-name",
        "\"linux\": {",
        "\"linux\": {\n\t\t\"netDevices\": {\"eth0\": {\"name\": \"a/b\"}},",
    ),
];

/// The same for `linux.seccomp`: the whole object.
pub const SECCOMP: &[(&str, &str)] = &[
    ("seccomp-action", "{\"defaultAction\": \"ALLOW\"}"),
    ("seccomp-errno-of-default", "{\"defaultAction\": \"SCMP_ACT_KILL\", \"defaultErrnoRet\": 1}"),
    (
        "seccomp-notify-default",
        "{\"defaultAction\": \"SCMP_ACT_NOTIFY\", \"listenerPath\": \"/a\"}",
    ),
    (
        "seccomp-architecture",
        "{\"defaultAction\": \"SCMP_ACT_LOG\", \"architectures\": [\"SCMP_ARCH_Z80\"]}",
    ),
    (
        "seccomp-flag",
        "{\"defaultAction\": \"SCMP_ACT_LOG\", \"flags\": [\"SECCOMP_FILTER_FLAG_FAST\"]}",
    ),
    ("seccomp-metadata", "{\"defaultAction\": \"SCMP_ACT_LOG\", \"listenerMetadata\": \"x\"}"),
    ("seccomp-no-default", "{}"),
    (
        "seccomp-execve-denied",
        "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"execve\"], \"action\": \"SCMP_ACT_KILL\"}]}",
    ),
];

/// And for the entries of `linux.seccomp.syscalls`.
pub const SECCOMP_RULES: &[(&str, &str)] = &[
    ("seccomp-rule-action", "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_NOTHING\"}"),
    ("seccomp-names", "{\"names\": [], \"action\": \"SCMP_ACT_LOG\"}"),
    (
        "seccomp-errno-of-log",
        "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_LOG\", \"errnoRet\": 5}",
    ),
    (
        "seccomp-errno-range",
        "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 4096}",
    ),
    (
        "seccomp-operator",
        "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_LOG\", \"args\": [{\"index\": 0, \"op\": \"==\", \"value\": 1}]}",
    ),
    (
        "seccomp-index",
        "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_LOG\", \"args\": [{\"index\": 6, \"op\": \"SCMP_CMP_EQ\", \"value\": 1}]}",
    ),
    (
        "seccomp-value",
        "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_LOG\", \"args\": [{\"index\": 0, \"op\": \"SCMP_CMP_EQ\", \"value\": -1}]}",
    ),
    ("seccomp-execve-not-allowed", "{\"names\": [\"execveat\"], \"action\": \"SCMP_ACT_ALLOW\"}"),
    ("seccomp-notify-write", "{\"names\": [\"read\", \"write\"], \"action\": \"SCMP_ACT_NOTIFY\"}"),
    ("seccomp-notify-without-agent", "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_NOTIFY\"}"),
    (
        "seccomp-contradiction",
        "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_LOG\", \"args\": [{\"index\": 0, \"op\": \"SCMP_CMP_EQ\", \"value\": 1}]},\n\t\t\t{\"names\": [\"read\"], \"action\": \"SCMP_ACT_TRAP\", \"args\": [{\"index\": 0, \"op\": \"SCMP_CMP_EQ\", \"value\": 1}]}",
    ),
];

/// The same for one more member at the beginning of an object of the default configuration.
pub const MEMBERS: &[(&str, &str, &str)] = &[
    ("device-rule-type", "\"devices\": [", "{\"allow\": true, \"type\": \"u\", \"access\": \"r\"}"),
    ("env-nul", "\"env\": [", "\"A=secret\\u0000\""),
    ("env-without-name", "\"env\": [", "\"=b\""),
    (
        "scheduler-flag",
        "\"process\": {",
        "\"scheduler\": {\"policy\": \"SCHED_OTHER\", \"flags\": [\"RESET_ON_FORK\"]}",
    ),
    (
        "scheduler-deadline",
        "\"process\": {",
        "\"scheduler\": {\"policy\": \"SCHED_FIFO\", \"priority\": 1, \"deadline\": 5}",
    ),
    ("cgroups-path-climbs", "\"linux\": {", "\"cgroupsPath\": \"/a/../../b\""),
    ("cgroups-path-root", "\"linux\": {", "\"cgroupsPath\": \"/\""),
    ("cgroups-path-newline", "\"linux\": {", "\"cgroupsPath\": \"/a\\nb\""),
    ("hostname-nul", "{", "\"domainname\": \"a\\u0000b\""),
    ("sysctl-nul", "\"linux\": {", "\"sysctl\": {\"net.a\\u0000\": \"1\"}"),
    ("device-nul", "\"linux\": {", "\"devices\": [{\"path\": \"/dev/a\\u0000\", \"type\": \"p\"}]"),
    (
        "personality-flags",
        "\"linux\": {",
        "\"personality\": {\"domain\": \"LINUX\", \"flags\": [\"ADDR_NO_RANDOMIZE\"]}",
    ),
    ("cpu-idle-two", "\"resources\": {", "\"cpu\": {\"idle\": 2}"),
    ("cpus-no-list", "\"resources\": {", "\"cpu\": {\"cpus\": \"0;1\"}"),
    ("pids-limit-minus", "\"resources\": {", "\"pids\": {\"limit\": -2}"),
    ("memory-limit-minus", "\"resources\": {", "\"memory\": {\"limit\": -5}"),
    (
        "mount-tmpcopyup",
        "\"mounts\": [",
        "{\"destination\": \"/x\", \"type\": \"proc\", \"options\": [\"tmpcopyup\"]}",
    ),
    (
        "mount-not-followed",
        "\"mounts\": [",
        "{\"destination\": \"/x\", \"source\": \"/y\", \"options\": [\"rbind\", \"copy-symlink\"]}",
    ),
    (
        "mount-option-nul",
        "\"mounts\": [",
        "{\"destination\": \"/x\", \"type\": \"tmpfs\", \"options\": [\"size=1\\u0000\"]}",
    ),
    (
        "idmap-of-tmpfs",
        "\"mounts\": [",
        "{\"destination\": \"/x\", \"type\": \"tmpfs\", \"options\": [\"idmap\"],\n\
         \"uidMappings\": [{\"containerID\": 0, \"hostID\": 0, \"size\": 1}],\n\
         \"gidMappings\": [{\"containerID\": 0, \"hostID\": 0, \"size\": 1}]}",
    ),
];

/// The same for the ids of a new user namespace: `(container, host, size)` of both mappings.
pub const MAPPINGS: &[(&str, &str)] = &[
    ("mapping-size", "[0, 1000, 0]"),
    ("mapping-end", "[4294967295, 1000, 1]"),
    ("mapping-end-of-host", "[0, 4294967290, 10]"),
    ("mapping-overlap", "[0, 1000, 10], [9, 2000, 1]"),
    ("mapping-overlap-of-host", "[0, 1000, 10], [20, 1009, 1]"),
];
