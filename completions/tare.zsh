#compdef tare

autoload -U is-at-least

_tare() {
    typeset -A opt_args
    typeset -a _arguments_options
    local ret=1

    if is-at-least 5.2; then
        _arguments_options=(-s -S -C)
    else
        _arguments_options=(-s -C)
    fi

    local context curcontext="$curcontext" state line
    _arguments "${_arguments_options[@]}" : \
'*--root=[directory of the container states (default\: /run/tare)]:DIR:_default' \
'*--log=[write log lines to FILE (default\: standard error)]:FILE:_default' \
'*--log-format=[format of log lines\: text or json (default\: text)]:FORMAT:_default' \
'*--rootless=[tolerate missing cgroup permissions\: true, false or auto]:WHEN:_default' \
'*--criu=[criu for checkpoint and restore (default\: the one in \$PATH)]:PATH:_default' \
'--debug[log debug messages too]' \
'--systemd-cgroup[let systemd make cgroups; cgroupsPath is then slice\:prefix\:name]' \
'-v[print the version]' \
'--version[print the version]' \
'-h[print this help]' \
'--help[print this help]' \
":: :_tare_commands" \
"*::: :->tare" \
&& ret=0
    case $state in
    (tare)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:tare-command-$line[1]:"
        case $line[1] in
            (create)
_arguments "${_arguments_options[@]}" : \
'*-b+[directory of config.json (default\: the current one)]:DIR:_default' \
'*--bundle=[directory of config.json (default\: the current one)]:DIR:_default' \
'*--console-socket=[AF_UNIX socket that receives the terminal'\''s master]:PATH:_default' \
'*--pidfd-socket=[AF_UNIX socket that receives a pidfd of the process]:PATH:_default' \
'*--pid-file=[write the process id to FILE]:FILE:_default' \
'*--preserve-fds=[pass N more file descriptors after stdio and \$LISTEN_FDS]:N:_default' \
'*--trace=[write the time of every step to FILE, in Chrome'\''s trace format]:FILE:_default' \
'--no-pivot[use MS_MOVE and chroot instead of pivot_root (root on a ramdisk)]' \
'--no-new-keyring[keep the caller'\''s session keyring]' \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
&& ret=0
;;
(start)
_arguments "${_arguments_options[@]}" : \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
&& ret=0
;;
(run)
_arguments "${_arguments_options[@]}" : \
'*-b+[directory of config.json (default\: the current one)]:DIR:_default' \
'*--bundle=[directory of config.json (default\: the current one)]:DIR:_default' \
'*--console-socket=[AF_UNIX socket that receives the terminal'\''s master]:PATH:_default' \
'*--pidfd-socket=[AF_UNIX socket that receives a pidfd of the process]:PATH:_default' \
'*--pid-file=[write the process id to FILE]:FILE:_default' \
'*--preserve-fds=[pass N more file descriptors after stdio and \$LISTEN_FDS]:N:_default' \
'*--trace=[write the time of every step to FILE, in Chrome'\''s trace format]:FILE:_default' \
'--no-pivot[use MS_MOVE and chroot instead of pivot_root (root on a ramdisk)]' \
'--no-new-keyring[keep the caller'\''s session keyring]' \
'-d[do not wait for the container'\''s process]' \
'--detach[do not wait for the container'\''s process]' \
'--keep[do not delete the container after it has ended]' \
'--no-subreaper[do not become the reaper of orphaned processes]' \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
&& ret=0
;;
(exec)
_arguments "${_arguments_options[@]}" : \
'*-p+[read the process from a JSON file]:FILE:_default' \
'*--process=[read the process from a JSON file]:FILE:_default' \
'*--cwd=[working directory in the container]:DIR:_default' \
'*-e+[set an environment variable (repeatable)]:NAME=VALUE:_default' \
'*--env=[set an environment variable (repeatable)]:NAME=VALUE:_default' \
'*-u+[user and group of the process]:UID[:GID]:_default' \
'*--user=[user and group of the process]:UID[:GID]:_default' \
'*-g+[add a group (repeatable)]:GID:_default' \
'*--additional-gids=[add a group (repeatable)]:GID:_default' \
'*--process-label=[SELinux label of the process]:LABEL:_default' \
'*--apparmor=[AppArmor profile of the process]:PROFILE:_default' \
'*-c+[add a capability (repeatable)]:CAP:_default' \
'*--cap=[add a capability (repeatable)]:CAP:_default' \
'*--cgroup=[run in an existing sub-cgroup (repeatable)]:[CONTROLLER:]PATH:_default' \
'*--console-socket=[AF_UNIX socket that receives the terminal'\''s master]:PATH:_default' \
'*--pidfd-socket=[AF_UNIX socket that receives a pidfd of the process]:PATH:_default' \
'*--pid-file=[write the process id to FILE]:FILE:_default' \
'*--preserve-fds=[pass N more file descriptors after stdio and \$LISTEN_FDS]:N:_default' \
'*--trace=[write the time of every step to FILE, in Chrome'\''s trace format]:FILE:_default' \
'-d[do not wait for the process]' \
'--detach[do not wait for the process]' \
'-t[give the process a terminal]' \
'--tty[give the process a terminal]' \
'--no-new-privs[set no_new_privs]' \
'--ignore-paused[allow exec in a paused container]' \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
'*::COMMAND -- program and arguments:_default' \
&& ret=0
;;
(state)
_arguments "${_arguments_options[@]}" : \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
&& ret=0
;;
(list)
_arguments "${_arguments_options[@]}" : \
'*-f+[table or json (default\: table)]:FORMAT:_default' \
'*--format=[table or json (default\: table)]:FORMAT:_default' \
'-q[print ids only]' \
'--quiet[print ids only]' \
'-h[print this help]' \
'--help[print this help]' \
&& ret=0
;;
(ps)
_arguments "${_arguments_options[@]}" : \
'*-f+[table or json (default\: table)]:FORMAT:_default' \
'*--format=[table or json (default\: table)]:FORMAT:_default' \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
'*::PS-OPTION -- options of ps(1):_default' \
&& ret=0
;;
(kill)
_arguments "${_arguments_options[@]}" : \
'-a[send the signal to all processes of the container]' \
'--all[send the signal to all processes of the container]' \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
'::SIGNAL -- such as 9, KILL, SIGKILL:_default' \
&& ret=0
;;
(delete)
_arguments "${_arguments_options[@]}" : \
'-f[kill a running one; a missing one is no error]' \
'--force[kill a running one; a missing one is no error]' \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
&& ret=0
;;
(pause)
_arguments "${_arguments_options[@]}" : \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
&& ret=0
;;
(resume)
_arguments "${_arguments_options[@]}" : \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
&& ret=0
;;
(update)
_arguments "${_arguments_options[@]}" : \
'*-r+[take all limits from a JSON file, or from stdin if it is -]:FILE:_default' \
'*--resources=[take all limits from a JSON file, or from stdin if it is -]:FILE:_default' \
'*--blkio-weight=[share of disk time, 10 to 1000]:N:_default' \
'*--cpu-period=[length of a period for cpu-quota, in microseconds]:US:_default' \
'*--cpu-quota=[processor time per period, in microseconds; -1 for no limit]:US:_default' \
'*--cpu-burst=[unused quota that may be saved up, in microseconds]:US:_default' \
'*--cpu-share=[share of processor time, 2 to 262144]:N:_default' \
'*--cpu-idle=[1 gives it only time that nobody else wants]:0|1:_default' \
'*--cpu-rt-period=[length of a period for cpu-rt-runtime, in microseconds]:US:_default' \
'*--cpu-rt-runtime=[real-time processor time per period, in microseconds]:US:_default' \
'*--cpuset-cpus=[processors, such as 0-3,7]:LIST:_default' \
'*--cpuset-mems=[memory nodes, such as 0-1]:LIST:_default' \
'*--memory=[memory limit, such as 50M; -1 for none]:BYTES:_default' \
'*--memory-reservation=[memory that is left alone under pressure]:BYTES:_default' \
'*--memory-swap=[limit of memory and swap together; -1 for none]:BYTES:_default' \
'*--kernel-memory=[accepted for callers of runc\: obsolete, without effect]:BYTES:_default' \
'*--kernel-memory-tcp=[accepted for callers of runc\: obsolete, without effect]:BYTES:_default' \
'*--pids-limit=[number of tasks; -1 for no limit]:N:_default' \
'*--l3-cache-schema=[Intel RDT share of the L3 cache, such as L3\:0=7f0;1=f]:SCHEMA:_default' \
'*--mem-bw-schema=[Intel RDT memory bandwidth, such as MB\:0=20;1=70]:SCHEMA:_default' \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
&& ret=0
;;
(events)
_arguments "${_arguments_options[@]}" : \
'*--interval=[time between two prints of the usage (default\: 5s)]:TIME:_default' \
'--stats[print the usage once and exit]' \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
&& ret=0
;;
(checkpoint)
_arguments "${_arguments_options[@]}" : \
'*--image-path=[folder of the images (default\: checkpoint)]:DIR:_default' \
'*--work-path=[folder of criu'\''s log (default\: that of the images)]:DIR:_default' \
'*--manage-cgroups-mode=[soft, full, strict or ignore (default\: soft)]:MODE:_default' \
'*--empty-ns=[leave the contents of a namespace to others\: network]:NAMESPACE:_default' \
'*--parent-path=[folder of the images before, relative to those of this one]:DIR:_default' \
'*--page-server=[send memory to another criu, or serve it for lazy-pages]:ADDRESS:PORT:_default' \
'*--status-fd=[descriptor that gets a zero byte once lazy-pages is ready]:N:_default' \
'--tcp-established[with established TCP connections]' \
'--ext-unix-sk[with UNIX sockets to processes outside]' \
'--shell-job[with a terminal that belongs to somebody outside]' \
'--file-locks[with file locks]' \
'--lazy-pages[fetch memory when it is touched]' \
'--auto-dedup[drop memory from older images that newer ones have]' \
'--leave-running[let the container go on]' \
'--pre-dump[save memory only, and let the container go on]' \
'--tcp-skip-in-flight[without TCP connections that are being made]' \
'--link-remap[make links for files that were removed while they are open]' \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
&& ret=0
;;
(restore)
_arguments "${_arguments_options[@]}" : \
'*--image-path=[folder of the images (default\: checkpoint)]:DIR:_default' \
'*--work-path=[folder of criu'\''s log (default\: that of the images)]:DIR:_default' \
'*--manage-cgroups-mode=[soft, full, strict or ignore (default\: soft)]:MODE:_default' \
'*--empty-ns=[leave the contents of a namespace to others\: network]:NAMESPACE:_default' \
'*-b+[directory of config.json (default\: the current one)]:DIR:_default' \
'*--bundle=[directory of config.json (default\: the current one)]:DIR:_default' \
'*--console-socket=[AF_UNIX socket that receives the terminal'\''s master]:PATH:_default' \
'*--pid-file=[write the process id to FILE]:FILE:_default' \
'*--lsm-profile=[label of the processes, such as apparmor\:NAME]:TYPE:LABEL:_default' \
'*--lsm-mount-context=[SELinux context of mounts that have one]:CONTEXT:_default' \
'--tcp-established[with established TCP connections]' \
'--ext-unix-sk[with UNIX sockets to processes outside]' \
'--shell-job[with a terminal that belongs to somebody outside]' \
'--file-locks[with file locks]' \
'--lazy-pages[fetch memory when it is touched]' \
'--auto-dedup[drop memory from older images that newer ones have]' \
'-d[do not wait for the container'\''s process]' \
'--detach[do not wait for the container'\''s process]' \
'--no-subreaper[do not become the reaper of orphaned processes]' \
'--no-pivot[accepted for callers of runc\: criu knows what to do]' \
'-h[print this help]' \
'--help[print this help]' \
':ID -- name of the container:_default' \
&& ret=0
;;
(spec)
_arguments "${_arguments_options[@]}" : \
'*-b+[directory of config.json (default\: the current one)]:DIR:_default' \
'*--bundle=[directory of config.json (default\: the current one)]:DIR:_default' \
'--rootless[for use without root privileges]' \
'-h[print this help]' \
'--help[print this help]' \
&& ret=0
;;
(features)
_arguments "${_arguments_options[@]}" : \
'-h[print this help]' \
'--help[print this help]' \
&& ret=0
;;
(explain)
_arguments "${_arguments_options[@]}" : \
'*-b+[directory of config.json (default\: the current one)]:DIR:_default' \
'*--bundle=[directory of config.json (default\: the current one)]:DIR:_default' \
'--json[print JSON]' \
'-h[print this help]' \
'--help[print this help]' \
'::ID -- name of the container:_default' \
&& ret=0
;;
(doctor)
_arguments "${_arguments_options[@]}" : \
'-h[print this help]' \
'--help[print this help]' \
'::BUNDLE -- directory of config.json:_default' \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
":: :_tare__subcmd__help_commands" \
"*::: :->help" \
&& ret=0

    case $state in
    (help)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:tare-help-command-$line[1]:"
        case $line[1] in
            (create)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(start)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(run)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(exec)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(state)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(list)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(ps)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(kill)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(delete)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(pause)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(resume)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(update)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(events)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(checkpoint)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(restore)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(spec)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(features)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(explain)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(doctor)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
        esac
    ;;
esac
;;
        esac
    ;;
esac
}

(( $+functions[_tare_commands] )) ||
_tare_commands() {
    local commands; commands=(
'create:create a container' \
'start:release the process of a created container' \
'run:create and start a container' \
'exec:run another process in a container' \
'state:print the state of a container as JSON' \
'list:list containers' \
'ps:show the processes of a container' \
'kill:send a signal to a container' \
'delete:remove a stopped or created container' \
'pause:suspend all processes of a container' \
'resume:resume a paused container' \
'update:change the limits of a container' \
'events:print what a container uses, and when it runs out of memory' \
'checkpoint:save a running container to disk' \
'restore:make a container from a checkpoint' \
'spec:write a config.json to start from' \
'features:print what this runtime implements, as JSON' \
'explain:print what run would do, without doing it' \
'doctor:print what this host can do, and what in a bundle will fail for it' \
'help:print this help, or that of a command' \
    )
    _describe -t commands 'tare commands' commands "$@"
}
(( $+functions[_tare__subcmd__checkpoint_commands] )) ||
_tare__subcmd__checkpoint_commands() {
    local commands; commands=()
    _describe -t commands 'tare checkpoint commands' commands "$@"
}
(( $+functions[_tare__subcmd__create_commands] )) ||
_tare__subcmd__create_commands() {
    local commands; commands=()
    _describe -t commands 'tare create commands' commands "$@"
}
(( $+functions[_tare__subcmd__delete_commands] )) ||
_tare__subcmd__delete_commands() {
    local commands; commands=()
    _describe -t commands 'tare delete commands' commands "$@"
}
(( $+functions[_tare__subcmd__doctor_commands] )) ||
_tare__subcmd__doctor_commands() {
    local commands; commands=()
    _describe -t commands 'tare doctor commands' commands "$@"
}
(( $+functions[_tare__subcmd__events_commands] )) ||
_tare__subcmd__events_commands() {
    local commands; commands=()
    _describe -t commands 'tare events commands' commands "$@"
}
(( $+functions[_tare__subcmd__exec_commands] )) ||
_tare__subcmd__exec_commands() {
    local commands; commands=()
    _describe -t commands 'tare exec commands' commands "$@"
}
(( $+functions[_tare__subcmd__explain_commands] )) ||
_tare__subcmd__explain_commands() {
    local commands; commands=()
    _describe -t commands 'tare explain commands' commands "$@"
}
(( $+functions[_tare__subcmd__features_commands] )) ||
_tare__subcmd__features_commands() {
    local commands; commands=()
    _describe -t commands 'tare features commands' commands "$@"
}
(( $+functions[_tare__subcmd__help_commands] )) ||
_tare__subcmd__help_commands() {
    local commands; commands=(
'create:create a container' \
'start:release the process of a created container' \
'run:create and start a container' \
'exec:run another process in a container' \
'state:print the state of a container as JSON' \
'list:list containers' \
'ps:show the processes of a container' \
'kill:send a signal to a container' \
'delete:remove a stopped or created container' \
'pause:suspend all processes of a container' \
'resume:resume a paused container' \
'update:change the limits of a container' \
'events:print what a container uses, and when it runs out of memory' \
'checkpoint:save a running container to disk' \
'restore:make a container from a checkpoint' \
'spec:write a config.json to start from' \
'features:print what this runtime implements, as JSON' \
'explain:print what run would do, without doing it' \
'doctor:print what this host can do, and what in a bundle will fail for it' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'tare help commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__checkpoint_commands] )) ||
_tare__subcmd__help__subcmd__checkpoint_commands() {
    local commands; commands=()
    _describe -t commands 'tare help checkpoint commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__create_commands] )) ||
_tare__subcmd__help__subcmd__create_commands() {
    local commands; commands=()
    _describe -t commands 'tare help create commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__delete_commands] )) ||
_tare__subcmd__help__subcmd__delete_commands() {
    local commands; commands=()
    _describe -t commands 'tare help delete commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__doctor_commands] )) ||
_tare__subcmd__help__subcmd__doctor_commands() {
    local commands; commands=()
    _describe -t commands 'tare help doctor commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__events_commands] )) ||
_tare__subcmd__help__subcmd__events_commands() {
    local commands; commands=()
    _describe -t commands 'tare help events commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__exec_commands] )) ||
_tare__subcmd__help__subcmd__exec_commands() {
    local commands; commands=()
    _describe -t commands 'tare help exec commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__explain_commands] )) ||
_tare__subcmd__help__subcmd__explain_commands() {
    local commands; commands=()
    _describe -t commands 'tare help explain commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__features_commands] )) ||
_tare__subcmd__help__subcmd__features_commands() {
    local commands; commands=()
    _describe -t commands 'tare help features commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__help_commands] )) ||
_tare__subcmd__help__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'tare help help commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__kill_commands] )) ||
_tare__subcmd__help__subcmd__kill_commands() {
    local commands; commands=()
    _describe -t commands 'tare help kill commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__list_commands] )) ||
_tare__subcmd__help__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'tare help list commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__pause_commands] )) ||
_tare__subcmd__help__subcmd__pause_commands() {
    local commands; commands=()
    _describe -t commands 'tare help pause commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__ps_commands] )) ||
_tare__subcmd__help__subcmd__ps_commands() {
    local commands; commands=()
    _describe -t commands 'tare help ps commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__restore_commands] )) ||
_tare__subcmd__help__subcmd__restore_commands() {
    local commands; commands=()
    _describe -t commands 'tare help restore commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__resume_commands] )) ||
_tare__subcmd__help__subcmd__resume_commands() {
    local commands; commands=()
    _describe -t commands 'tare help resume commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__run_commands] )) ||
_tare__subcmd__help__subcmd__run_commands() {
    local commands; commands=()
    _describe -t commands 'tare help run commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__spec_commands] )) ||
_tare__subcmd__help__subcmd__spec_commands() {
    local commands; commands=()
    _describe -t commands 'tare help spec commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__start_commands] )) ||
_tare__subcmd__help__subcmd__start_commands() {
    local commands; commands=()
    _describe -t commands 'tare help start commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__state_commands] )) ||
_tare__subcmd__help__subcmd__state_commands() {
    local commands; commands=()
    _describe -t commands 'tare help state commands' commands "$@"
}
(( $+functions[_tare__subcmd__help__subcmd__update_commands] )) ||
_tare__subcmd__help__subcmd__update_commands() {
    local commands; commands=()
    _describe -t commands 'tare help update commands' commands "$@"
}
(( $+functions[_tare__subcmd__kill_commands] )) ||
_tare__subcmd__kill_commands() {
    local commands; commands=()
    _describe -t commands 'tare kill commands' commands "$@"
}
(( $+functions[_tare__subcmd__list_commands] )) ||
_tare__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'tare list commands' commands "$@"
}
(( $+functions[_tare__subcmd__pause_commands] )) ||
_tare__subcmd__pause_commands() {
    local commands; commands=()
    _describe -t commands 'tare pause commands' commands "$@"
}
(( $+functions[_tare__subcmd__ps_commands] )) ||
_tare__subcmd__ps_commands() {
    local commands; commands=()
    _describe -t commands 'tare ps commands' commands "$@"
}
(( $+functions[_tare__subcmd__restore_commands] )) ||
_tare__subcmd__restore_commands() {
    local commands; commands=()
    _describe -t commands 'tare restore commands' commands "$@"
}
(( $+functions[_tare__subcmd__resume_commands] )) ||
_tare__subcmd__resume_commands() {
    local commands; commands=()
    _describe -t commands 'tare resume commands' commands "$@"
}
(( $+functions[_tare__subcmd__run_commands] )) ||
_tare__subcmd__run_commands() {
    local commands; commands=()
    _describe -t commands 'tare run commands' commands "$@"
}
(( $+functions[_tare__subcmd__spec_commands] )) ||
_tare__subcmd__spec_commands() {
    local commands; commands=()
    _describe -t commands 'tare spec commands' commands "$@"
}
(( $+functions[_tare__subcmd__start_commands] )) ||
_tare__subcmd__start_commands() {
    local commands; commands=()
    _describe -t commands 'tare start commands' commands "$@"
}
(( $+functions[_tare__subcmd__state_commands] )) ||
_tare__subcmd__state_commands() {
    local commands; commands=()
    _describe -t commands 'tare state commands' commands "$@"
}
(( $+functions[_tare__subcmd__update_commands] )) ||
_tare__subcmd__update_commands() {
    local commands; commands=()
    _describe -t commands 'tare update commands' commands "$@"
}

if [ "$funcstack[1]" = "_tare" ]; then
    _tare "$@"
else
    compdef _tare tare
fi
