# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_tare_global_optspecs
    string join \n root= debug log= log-format= systemd-cgroup rootless= criu= v/version h/help
end

function __fish_tare_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_tare_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_tare_using_subcommand
    set -l cmd (__fish_tare_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c tare -n "__fish_tare_needs_command" -l root -d 'directory of the container states (default: /run/tare)' -r
complete -c tare -n "__fish_tare_needs_command" -l log -d 'write log lines to FILE (default: standard error)' -r
complete -c tare -n "__fish_tare_needs_command" -l log-format -d 'format of log lines: text or json (default: text)' -r
complete -c tare -n "__fish_tare_needs_command" -l rootless -d 'tolerate missing cgroup permissions: true, false or auto' -r
complete -c tare -n "__fish_tare_needs_command" -l criu -d 'criu for checkpoint and restore (default: the one in $PATH)' -r
complete -c tare -n "__fish_tare_needs_command" -l debug -d 'log debug messages too'
complete -c tare -n "__fish_tare_needs_command" -l systemd-cgroup -d 'let systemd make cgroups; cgroupsPath is then slice:prefix:name'
complete -c tare -n "__fish_tare_needs_command" -s v -l version -d 'print the version'
complete -c tare -n "__fish_tare_needs_command" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_needs_command" -f -a "create" -d 'create a container'
complete -c tare -n "__fish_tare_needs_command" -f -a "start" -d 'release the process of a created container'
complete -c tare -n "__fish_tare_needs_command" -f -a "run" -d 'create and start a container'
complete -c tare -n "__fish_tare_needs_command" -f -a "exec" -d 'run another process in a container'
complete -c tare -n "__fish_tare_needs_command" -f -a "state" -d 'print the state of a container as JSON'
complete -c tare -n "__fish_tare_needs_command" -f -a "list" -d 'list containers'
complete -c tare -n "__fish_tare_needs_command" -f -a "ps" -d 'show the processes of a container'
complete -c tare -n "__fish_tare_needs_command" -f -a "kill" -d 'send a signal to a container'
complete -c tare -n "__fish_tare_needs_command" -f -a "delete" -d 'remove a stopped or created container'
complete -c tare -n "__fish_tare_needs_command" -f -a "pause" -d 'suspend all processes of a container'
complete -c tare -n "__fish_tare_needs_command" -f -a "resume" -d 'resume a paused container'
complete -c tare -n "__fish_tare_needs_command" -f -a "update" -d 'change the limits of a container'
complete -c tare -n "__fish_tare_needs_command" -f -a "events" -d 'print what a container uses, and when it runs out of memory'
complete -c tare -n "__fish_tare_needs_command" -f -a "checkpoint" -d 'save a running container to disk'
complete -c tare -n "__fish_tare_needs_command" -f -a "restore" -d 'make a container from a checkpoint'
complete -c tare -n "__fish_tare_needs_command" -f -a "spec" -d 'write a config.json to start from'
complete -c tare -n "__fish_tare_needs_command" -f -a "features" -d 'print what this runtime implements, as JSON'
complete -c tare -n "__fish_tare_needs_command" -f -a "explain" -d 'print what run would do, without doing it'
complete -c tare -n "__fish_tare_needs_command" -f -a "doctor" -d 'print what this host can do, and what in a bundle will fail for it'
complete -c tare -n "__fish_tare_needs_command" -f -a "help" -d 'print this help, or that of a command'
complete -c tare -n "__fish_tare_using_subcommand create" -s b -l bundle -d 'directory of config.json (default: the current one)' -r
complete -c tare -n "__fish_tare_using_subcommand create" -l console-socket -d 'AF_UNIX socket that receives the terminal\'s master' -r
complete -c tare -n "__fish_tare_using_subcommand create" -l pidfd-socket -d 'AF_UNIX socket that receives a pidfd of the process' -r
complete -c tare -n "__fish_tare_using_subcommand create" -l pid-file -d 'write the process id to FILE' -r
complete -c tare -n "__fish_tare_using_subcommand create" -l preserve-fds -d 'pass N more file descriptors after stdio and $LISTEN_FDS' -r
complete -c tare -n "__fish_tare_using_subcommand create" -l trace -d 'write the time of every step to FILE, in Chrome\'s trace format' -r
complete -c tare -n "__fish_tare_using_subcommand create" -l no-pivot -d 'use MS_MOVE and chroot instead of pivot_root (root on a ramdisk)'
complete -c tare -n "__fish_tare_using_subcommand create" -l no-new-keyring -d 'keep the caller\'s session keyring'
complete -c tare -n "__fish_tare_using_subcommand create" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand start" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand run" -s b -l bundle -d 'directory of config.json (default: the current one)' -r
complete -c tare -n "__fish_tare_using_subcommand run" -l console-socket -d 'AF_UNIX socket that receives the terminal\'s master' -r
complete -c tare -n "__fish_tare_using_subcommand run" -l pidfd-socket -d 'AF_UNIX socket that receives a pidfd of the process' -r
complete -c tare -n "__fish_tare_using_subcommand run" -l pid-file -d 'write the process id to FILE' -r
complete -c tare -n "__fish_tare_using_subcommand run" -l preserve-fds -d 'pass N more file descriptors after stdio and $LISTEN_FDS' -r
complete -c tare -n "__fish_tare_using_subcommand run" -l trace -d 'write the time of every step to FILE, in Chrome\'s trace format' -r
complete -c tare -n "__fish_tare_using_subcommand run" -l no-pivot -d 'use MS_MOVE and chroot instead of pivot_root (root on a ramdisk)'
complete -c tare -n "__fish_tare_using_subcommand run" -l no-new-keyring -d 'keep the caller\'s session keyring'
complete -c tare -n "__fish_tare_using_subcommand run" -s d -l detach -d 'do not wait for the container\'s process'
complete -c tare -n "__fish_tare_using_subcommand run" -l keep -d 'do not delete the container after it has ended'
complete -c tare -n "__fish_tare_using_subcommand run" -l no-subreaper -d 'do not become the reaper of orphaned processes'
complete -c tare -n "__fish_tare_using_subcommand run" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand exec" -s p -l process -d 'read the process from a JSON file' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -l cwd -d 'working directory in the container' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -s e -l env -d 'set an environment variable (repeatable)' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -s u -l user -d 'user and group of the process' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -s g -l additional-gids -d 'add a group (repeatable)' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -l process-label -d 'SELinux label of the process' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -l apparmor -d 'AppArmor profile of the process' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -s c -l cap -d 'add a capability (repeatable)' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -l cgroup -d 'run in an existing sub-cgroup (repeatable)' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -l console-socket -d 'AF_UNIX socket that receives the terminal\'s master' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -l pidfd-socket -d 'AF_UNIX socket that receives a pidfd of the process' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -l pid-file -d 'write the process id to FILE' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -l preserve-fds -d 'pass N more file descriptors after stdio and $LISTEN_FDS' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -l trace -d 'write the time of every step to FILE, in Chrome\'s trace format' -r
complete -c tare -n "__fish_tare_using_subcommand exec" -s d -l detach -d 'do not wait for the process'
complete -c tare -n "__fish_tare_using_subcommand exec" -s t -l tty -d 'give the process a terminal'
complete -c tare -n "__fish_tare_using_subcommand exec" -l no-new-privs -d 'set no_new_privs'
complete -c tare -n "__fish_tare_using_subcommand exec" -l ignore-paused -d 'allow exec in a paused container'
complete -c tare -n "__fish_tare_using_subcommand exec" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand state" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand list" -s f -l format -d 'table or json (default: table)' -r
complete -c tare -n "__fish_tare_using_subcommand list" -s q -l quiet -d 'print ids only'
complete -c tare -n "__fish_tare_using_subcommand list" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand ps" -s f -l format -d 'table or json (default: table)' -r
complete -c tare -n "__fish_tare_using_subcommand ps" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand kill" -s a -l all -d 'send the signal to all processes of the container'
complete -c tare -n "__fish_tare_using_subcommand kill" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand delete" -s f -l force -d 'kill a running one; a missing one is no error'
complete -c tare -n "__fish_tare_using_subcommand delete" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand pause" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand resume" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand update" -s r -l resources -d 'take all limits from a JSON file, or from stdin if it is -' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l blkio-weight -d 'share of disk time, 10 to 1000' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l cpu-period -d 'length of a period for cpu-quota, in microseconds' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l cpu-quota -d 'processor time per period, in microseconds; -1 for no limit' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l cpu-burst -d 'unused quota that may be saved up, in microseconds' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l cpu-share -d 'share of processor time, 2 to 262144' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l cpu-idle -d '1 gives it only time that nobody else wants' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l cpu-rt-period -d 'length of a period for cpu-rt-runtime, in microseconds' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l cpu-rt-runtime -d 'real-time processor time per period, in microseconds' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l cpuset-cpus -d 'processors, such as 0-3,7' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l cpuset-mems -d 'memory nodes, such as 0-1' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l memory -d 'memory limit, such as 50M; -1 for none' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l memory-reservation -d 'memory that is left alone under pressure' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l memory-swap -d 'limit of memory and swap together; -1 for none' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l kernel-memory -d 'accepted for callers of runc: obsolete, without effect' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l kernel-memory-tcp -d 'accepted for callers of runc: obsolete, without effect' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l pids-limit -d 'number of tasks; -1 for no limit' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l l3-cache-schema -d 'Intel RDT share of the L3 cache, such as L3:0=7f0;1=f' -r
complete -c tare -n "__fish_tare_using_subcommand update" -l mem-bw-schema -d 'Intel RDT memory bandwidth, such as MB:0=20;1=70' -r
complete -c tare -n "__fish_tare_using_subcommand update" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand events" -l interval -d 'time between two prints of the usage (default: 5s)' -r
complete -c tare -n "__fish_tare_using_subcommand events" -l stats -d 'print the usage once and exit'
complete -c tare -n "__fish_tare_using_subcommand events" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l image-path -d 'folder of the images (default: checkpoint)' -r
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l work-path -d 'folder of criu\'s log (default: that of the images)' -r
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l manage-cgroups-mode -d 'soft, full, strict or ignore (default: soft)' -r
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l empty-ns -d 'leave the contents of a namespace to others: network' -r
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l parent-path -d 'folder of the images before, relative to those of this one' -r
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l page-server -d 'send memory to another criu, or serve it for lazy-pages' -r
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l status-fd -d 'descriptor that gets a zero byte once lazy-pages is ready' -r
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l tcp-established -d 'with established TCP connections'
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l ext-unix-sk -d 'with UNIX sockets to processes outside'
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l shell-job -d 'with a terminal that belongs to somebody outside'
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l file-locks -d 'with file locks'
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l lazy-pages -d 'fetch memory when it is touched'
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l auto-dedup -d 'drop memory from older images that newer ones have'
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l leave-running -d 'let the container go on'
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l pre-dump -d 'save memory only, and let the container go on'
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l tcp-skip-in-flight -d 'without TCP connections that are being made'
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -l link-remap -d 'make links for files that were removed while they are open'
complete -c tare -n "__fish_tare_using_subcommand checkpoint" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand restore" -l image-path -d 'folder of the images (default: checkpoint)' -r
complete -c tare -n "__fish_tare_using_subcommand restore" -l work-path -d 'folder of criu\'s log (default: that of the images)' -r
complete -c tare -n "__fish_tare_using_subcommand restore" -l manage-cgroups-mode -d 'soft, full, strict or ignore (default: soft)' -r
complete -c tare -n "__fish_tare_using_subcommand restore" -l empty-ns -d 'leave the contents of a namespace to others: network' -r
complete -c tare -n "__fish_tare_using_subcommand restore" -s b -l bundle -d 'directory of config.json (default: the current one)' -r
complete -c tare -n "__fish_tare_using_subcommand restore" -l console-socket -d 'AF_UNIX socket that receives the terminal\'s master' -r
complete -c tare -n "__fish_tare_using_subcommand restore" -l pid-file -d 'write the process id to FILE' -r
complete -c tare -n "__fish_tare_using_subcommand restore" -l lsm-profile -d 'label of the processes, such as apparmor:NAME' -r
complete -c tare -n "__fish_tare_using_subcommand restore" -l lsm-mount-context -d 'SELinux context of mounts that have one' -r
complete -c tare -n "__fish_tare_using_subcommand restore" -l tcp-established -d 'with established TCP connections'
complete -c tare -n "__fish_tare_using_subcommand restore" -l ext-unix-sk -d 'with UNIX sockets to processes outside'
complete -c tare -n "__fish_tare_using_subcommand restore" -l shell-job -d 'with a terminal that belongs to somebody outside'
complete -c tare -n "__fish_tare_using_subcommand restore" -l file-locks -d 'with file locks'
complete -c tare -n "__fish_tare_using_subcommand restore" -l lazy-pages -d 'fetch memory when it is touched'
complete -c tare -n "__fish_tare_using_subcommand restore" -l auto-dedup -d 'drop memory from older images that newer ones have'
complete -c tare -n "__fish_tare_using_subcommand restore" -s d -l detach -d 'do not wait for the container\'s process'
complete -c tare -n "__fish_tare_using_subcommand restore" -l no-subreaper -d 'do not become the reaper of orphaned processes'
complete -c tare -n "__fish_tare_using_subcommand restore" -l no-pivot -d 'accepted for callers of runc: criu knows what to do'
complete -c tare -n "__fish_tare_using_subcommand restore" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand spec" -s b -l bundle -d 'directory of config.json (default: the current one)' -r
complete -c tare -n "__fish_tare_using_subcommand spec" -l rootless -d 'for use without root privileges'
complete -c tare -n "__fish_tare_using_subcommand spec" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand features" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand explain" -s b -l bundle -d 'directory of config.json (default: the current one)' -r
complete -c tare -n "__fish_tare_using_subcommand explain" -l json -d 'print JSON'
complete -c tare -n "__fish_tare_using_subcommand explain" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand doctor" -s h -l help -d 'print this help'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "create" -d 'create a container'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "start" -d 'release the process of a created container'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "run" -d 'create and start a container'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "exec" -d 'run another process in a container'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "state" -d 'print the state of a container as JSON'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "list" -d 'list containers'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "ps" -d 'show the processes of a container'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "kill" -d 'send a signal to a container'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "delete" -d 'remove a stopped or created container'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "pause" -d 'suspend all processes of a container'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "resume" -d 'resume a paused container'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "update" -d 'change the limits of a container'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "events" -d 'print what a container uses, and when it runs out of memory'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "checkpoint" -d 'save a running container to disk'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "restore" -d 'make a container from a checkpoint'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "spec" -d 'write a config.json to start from'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "features" -d 'print what this runtime implements, as JSON'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "explain" -d 'print what run would do, without doing it'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "doctor" -d 'print what this host can do, and what in a bundle will fail for it'
complete -c tare -n "__fish_tare_using_subcommand help; and not __fish_seen_subcommand_from create start run exec state list ps kill delete pause resume update events checkpoint restore spec features explain doctor help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
