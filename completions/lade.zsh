#compdef lade

autoload -U is-at-least

_lade() {
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
'--store=[Where images are kept \[default\: /var/lib/lade, or \$XDG_DATA_HOME/lade without root\]]:DIR:_files' \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
":: :_lade_commands" \
"*::: :->lade" \
&& ret=0
    case $state in
    (lade)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:lade-command-$line[1]:"
        case $line[1] in
            (pull)
_arguments "${_arguments_options[@]}" : \
'--platform=[Platform of the image \[default\: this one\]]:OS/ARCH[/VARIANT]:_default' \
'--ca=[Certificate authority to trust as well (PEM)]:FILE:_files' \
'--cert=[Client'\''s certificate (PEM)]:FILE:_files' \
'--key=[Client'\''s private key (PEM)]:FILE:_files' \
'--creds=[Credentials for the registry]:USER[:PASSWORD]:_default' \
'--authfile=[Docker'\''s config.json or containers'\'' auth.json]:FILE:_files' \
'--hosts-dir=[Directory with a hosts.toml for each registry]:DIR:_files' \
'--store=[Where images are kept \[default\: /var/lib/lade, or \$XDG_DATA_HOME/lade without root\]]:DIR:_files' \
'-q[Print nothing but errors]' \
'--quiet[Print nothing but errors]' \
'--plain-http[Talk http, not https, to the registry]' \
'--insecure-skip-verify[Accept any certificate]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':REF -- Image to pull:_default' \
&& ret=0
;;
(images)
_arguments "${_arguments_options[@]}" : \
'--format=[How to print]:FORMAT:(table json)' \
'--store=[Where images are kept \[default\: /var/lib/lade, or \$XDG_DATA_HOME/lade without root\]]:DIR:_files' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(rm)
_arguments "${_arguments_options[@]}" : \
'--store=[Where images are kept \[default\: /var/lib/lade, or \$XDG_DATA_HOME/lade without root\]]:DIR:_files' \
'-h[Print help]' \
'--help[Print help]' \
'*::REF -- Image to remove:_default' \
&& ret=0
;;
(gc)
_arguments "${_arguments_options[@]}" : \
'--store=[Where images are kept \[default\: /var/lib/lade, or \$XDG_DATA_HOME/lade without root\]]:DIR:_files' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(bundle)
_arguments "${_arguments_options[@]}" : \
'*-e+[Set a variable, or pass the caller'\''s on]:NAME[=VALUE]:_default' \
'*--env=[Set a variable, or pass the caller'\''s on]:NAME[=VALUE]:_default' \
'*-v+[Show it a file or directory]:SOURCE:DESTINATION[:ro]:_default' \
'*--volume=[Show it a file or directory]:SOURCE:DESTINATION[:ro]:_default' \
'-w+[Working directory]:DIR:_default' \
'--workdir=[Working directory]:DIR:_default' \
'-u+[Who runs the command]:USER[:GROUP]:_default' \
'--user=[Who runs the command]:USER[:GROUP]:_default' \
'--entrypoint=[Replace the image'\''s entry point and command]:PROGRAM:_default' \
'--net=[An own network with a loopback interface only, or the host'\''s with its /etc/resolv.conf and /etc/hosts]:NETWORK:(none host)' \
'--hostname=[Its name of the host \[default\: its name\]]:NAME:_default' \
'--store=[Where images are kept \[default\: /var/lib/lade, or \$XDG_DATA_HOME/lade without root\]]:DIR:_files' \
'--copy[Copy the layers into a plain directory instead of mounting them]' \
'-t[Give it a terminal]' \
'--tty[Give it a terminal]' \
'-h[Print help]' \
'--help[Print help]' \
':REF -- Stored image:_default' \
':DIR -- Directory for the bundle, empty or new:_files' \
'*::COMMAND -- Replaces the image'\''s command:_default' \
&& ret=0
;;
(unbundle)
_arguments "${_arguments_options[@]}" : \
'--store=[Where images are kept \[default\: /var/lib/lade, or \$XDG_DATA_HOME/lade without root\]]:DIR:_files' \
'-h[Print help]' \
'--help[Print help]' \
':DIR -- The bundle:_files' \
&& ret=0
;;
(run)
_arguments "${_arguments_options[@]}" : \
'--platform=[Platform of the image \[default\: this one\]]:OS/ARCH[/VARIANT]:_default' \
'--ca=[Certificate authority to trust as well (PEM)]:FILE:_files' \
'--cert=[Client'\''s certificate (PEM)]:FILE:_files' \
'--key=[Client'\''s private key (PEM)]:FILE:_files' \
'--creds=[Credentials for the registry]:USER[:PASSWORD]:_default' \
'--authfile=[Docker'\''s config.json or containers'\'' auth.json]:FILE:_files' \
'--hosts-dir=[Directory with a hosts.toml for each registry]:DIR:_files' \
'*-e+[Set a variable, or pass the caller'\''s on]:NAME[=VALUE]:_default' \
'*--env=[Set a variable, or pass the caller'\''s on]:NAME[=VALUE]:_default' \
'*-v+[Show it a file or directory]:SOURCE:DESTINATION[:ro]:_default' \
'*--volume=[Show it a file or directory]:SOURCE:DESTINATION[:ro]:_default' \
'-w+[Working directory]:DIR:_default' \
'--workdir=[Working directory]:DIR:_default' \
'-u+[Who runs the command]:USER[:GROUP]:_default' \
'--user=[Who runs the command]:USER[:GROUP]:_default' \
'--entrypoint=[Replace the image'\''s entry point and command]:PROGRAM:_default' \
'--net=[An own network with a loopback interface only, or the host'\''s with its /etc/resolv.conf and /etc/hosts]:NETWORK:(none host)' \
'--hostname=[Its name of the host \[default\: its name\]]:NAME:_default' \
'--name=[Name of the container \[default\: made up\]]:NAME:_default' \
'--store=[Where images are kept \[default\: /var/lib/lade, or \$XDG_DATA_HOME/lade without root\]]:DIR:_files' \
'-q[Print nothing but errors]' \
'--quiet[Print nothing but errors]' \
'--plain-http[Talk http, not https, to the registry]' \
'--insecure-skip-verify[Accept any certificate]' \
'--copy[Copy the layers into a plain directory instead of mounting them]' \
'-t[Give it a terminal]' \
'--tty[Give it a terminal]' \
'-d[Return when it has started and print its name; its output goes to run/NAME/.lade/log in the store]' \
'--detach[Return when it has started and print its name; its output goes to run/NAME/.lade/log in the store]' \
'-i[Nothing, for those used to it\: a container in the foreground reads lade'\''s input anyway]' \
'--interactive[Nothing, for those used to it\: a container in the foreground reads lade'\''s input anyway]' \
'--rm[Remove a detached container when it ends]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':REF -- Image:_default' \
'*::COMMAND -- Replaces the image'\''s command:_default' \
&& ret=0
;;
(delete)
_arguments "${_arguments_options[@]}" : \
'--store=[Where images are kept \[default\: /var/lib/lade, or \$XDG_DATA_HOME/lade without root\]]:DIR:_files' \
'-f[Kill what still runs]' \
'--force[Kill what still runs]' \
'--when-stopped[Wait for its end first]' \
'-h[Print help]' \
'--help[Print help]' \
'*::NAME -- Container to remove:_default' \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
":: :_lade__subcmd__help_commands" \
"*::: :->help" \
&& ret=0

    case $state in
    (help)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:lade-help-command-$line[1]:"
        case $line[1] in
            (pull)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(images)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(rm)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(gc)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(bundle)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(unbundle)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(run)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(delete)
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

(( $+functions[_lade_commands] )) ||
_lade_commands() {
    local commands; commands=(
'pull:Pull an image into the store' \
'images:List the stored images' \
'rm:Remove images by name; \`gc\` frees their space' \
'gc:Remove layers that no image and no bundle needs, and what killed calls left, beginnings of blobs too' \
'bundle:Make a bundle of a stored image' \
'unbundle:Unmount and remove a bundle that \`bundle\` made and in which no container runs' \
'run:Run a command in a new container of an image' \
'delete:Remove containers that \`run --detach\` has left' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'lade commands' commands "$@"
}
(( $+functions[_lade__subcmd__bundle_commands] )) ||
_lade__subcmd__bundle_commands() {
    local commands; commands=()
    _describe -t commands 'lade bundle commands' commands "$@"
}
(( $+functions[_lade__subcmd__delete_commands] )) ||
_lade__subcmd__delete_commands() {
    local commands; commands=()
    _describe -t commands 'lade delete commands' commands "$@"
}
(( $+functions[_lade__subcmd__gc_commands] )) ||
_lade__subcmd__gc_commands() {
    local commands; commands=()
    _describe -t commands 'lade gc commands' commands "$@"
}
(( $+functions[_lade__subcmd__help_commands] )) ||
_lade__subcmd__help_commands() {
    local commands; commands=(
'pull:Pull an image into the store' \
'images:List the stored images' \
'rm:Remove images by name; \`gc\` frees their space' \
'gc:Remove layers that no image and no bundle needs, and what killed calls left, beginnings of blobs too' \
'bundle:Make a bundle of a stored image' \
'unbundle:Unmount and remove a bundle that \`bundle\` made and in which no container runs' \
'run:Run a command in a new container of an image' \
'delete:Remove containers that \`run --detach\` has left' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'lade help commands' commands "$@"
}
(( $+functions[_lade__subcmd__help__subcmd__bundle_commands] )) ||
_lade__subcmd__help__subcmd__bundle_commands() {
    local commands; commands=()
    _describe -t commands 'lade help bundle commands' commands "$@"
}
(( $+functions[_lade__subcmd__help__subcmd__delete_commands] )) ||
_lade__subcmd__help__subcmd__delete_commands() {
    local commands; commands=()
    _describe -t commands 'lade help delete commands' commands "$@"
}
(( $+functions[_lade__subcmd__help__subcmd__gc_commands] )) ||
_lade__subcmd__help__subcmd__gc_commands() {
    local commands; commands=()
    _describe -t commands 'lade help gc commands' commands "$@"
}
(( $+functions[_lade__subcmd__help__subcmd__help_commands] )) ||
_lade__subcmd__help__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'lade help help commands' commands "$@"
}
(( $+functions[_lade__subcmd__help__subcmd__images_commands] )) ||
_lade__subcmd__help__subcmd__images_commands() {
    local commands; commands=()
    _describe -t commands 'lade help images commands' commands "$@"
}
(( $+functions[_lade__subcmd__help__subcmd__pull_commands] )) ||
_lade__subcmd__help__subcmd__pull_commands() {
    local commands; commands=()
    _describe -t commands 'lade help pull commands' commands "$@"
}
(( $+functions[_lade__subcmd__help__subcmd__rm_commands] )) ||
_lade__subcmd__help__subcmd__rm_commands() {
    local commands; commands=()
    _describe -t commands 'lade help rm commands' commands "$@"
}
(( $+functions[_lade__subcmd__help__subcmd__run_commands] )) ||
_lade__subcmd__help__subcmd__run_commands() {
    local commands; commands=()
    _describe -t commands 'lade help run commands' commands "$@"
}
(( $+functions[_lade__subcmd__help__subcmd__unbundle_commands] )) ||
_lade__subcmd__help__subcmd__unbundle_commands() {
    local commands; commands=()
    _describe -t commands 'lade help unbundle commands' commands "$@"
}
(( $+functions[_lade__subcmd__images_commands] )) ||
_lade__subcmd__images_commands() {
    local commands; commands=()
    _describe -t commands 'lade images commands' commands "$@"
}
(( $+functions[_lade__subcmd__pull_commands] )) ||
_lade__subcmd__pull_commands() {
    local commands; commands=()
    _describe -t commands 'lade pull commands' commands "$@"
}
(( $+functions[_lade__subcmd__rm_commands] )) ||
_lade__subcmd__rm_commands() {
    local commands; commands=()
    _describe -t commands 'lade rm commands' commands "$@"
}
(( $+functions[_lade__subcmd__run_commands] )) ||
_lade__subcmd__run_commands() {
    local commands; commands=()
    _describe -t commands 'lade run commands' commands "$@"
}
(( $+functions[_lade__subcmd__unbundle_commands] )) ||
_lade__subcmd__unbundle_commands() {
    local commands; commands=()
    _describe -t commands 'lade unbundle commands' commands "$@"
}

if [ "$funcstack[1]" = "_lade" ]; then
    _lade "$@"
else
    compdef _lade lade
fi
