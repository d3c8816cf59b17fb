# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_lade_global_optspecs
    string join \n store= h/help V/version
end

function __fish_lade_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_lade_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_lade_using_subcommand
    set -l cmd (__fish_lade_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c lade -n "__fish_lade_needs_command" -l store -d 'Where images are kept [default: /var/lib/lade, or $XDG_DATA_HOME/lade without root]' -r -F
complete -c lade -n "__fish_lade_needs_command" -s h -l help -d 'Print help'
complete -c lade -n "__fish_lade_needs_command" -s V -l version -d 'Print version'
complete -c lade -n "__fish_lade_needs_command" -f -a "pull" -d 'Pull an image into the store'
complete -c lade -n "__fish_lade_needs_command" -f -a "images" -d 'List the stored images'
complete -c lade -n "__fish_lade_needs_command" -f -a "rm" -d 'Remove images by name; `gc` frees their space'
complete -c lade -n "__fish_lade_needs_command" -f -a "gc" -d 'Remove layers that no image and no bundle needs, and what killed calls left, beginnings of blobs too'
complete -c lade -n "__fish_lade_needs_command" -f -a "bundle" -d 'Make a bundle of a stored image'
complete -c lade -n "__fish_lade_needs_command" -f -a "unbundle" -d 'Unmount and remove a bundle that `bundle` made and in which no container runs'
complete -c lade -n "__fish_lade_needs_command" -f -a "run" -d 'Run a command in a new container of an image'
complete -c lade -n "__fish_lade_needs_command" -f -a "delete" -d 'Remove containers that `run --detach` has left'
complete -c lade -n "__fish_lade_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c lade -n "__fish_lade_using_subcommand pull" -l platform -d 'Platform of the image [default: this one]' -r
complete -c lade -n "__fish_lade_using_subcommand pull" -l ca -d 'Certificate authority to trust as well (PEM)' -r -F
complete -c lade -n "__fish_lade_using_subcommand pull" -l cert -d 'Client\'s certificate (PEM)' -r -F
complete -c lade -n "__fish_lade_using_subcommand pull" -l key -d 'Client\'s private key (PEM)' -r -F
complete -c lade -n "__fish_lade_using_subcommand pull" -l creds -d 'Credentials for the registry' -r
complete -c lade -n "__fish_lade_using_subcommand pull" -l authfile -d 'Docker\'s config.json or containers\' auth.json' -r -F
complete -c lade -n "__fish_lade_using_subcommand pull" -l hosts-dir -d 'Directory with a hosts.toml for each registry' -r -F
complete -c lade -n "__fish_lade_using_subcommand pull" -l store -d 'Where images are kept [default: /var/lib/lade, or $XDG_DATA_HOME/lade without root]' -r -F
complete -c lade -n "__fish_lade_using_subcommand pull" -s q -l quiet -d 'Print nothing but errors'
complete -c lade -n "__fish_lade_using_subcommand pull" -l plain-http -d 'Talk http, not https, to the registry'
complete -c lade -n "__fish_lade_using_subcommand pull" -l insecure-skip-verify -d 'Accept any certificate'
complete -c lade -n "__fish_lade_using_subcommand pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lade -n "__fish_lade_using_subcommand images" -l format -d 'How to print' -r -f -a "table\t''
json\t''"
complete -c lade -n "__fish_lade_using_subcommand images" -l store -d 'Where images are kept [default: /var/lib/lade, or $XDG_DATA_HOME/lade without root]' -r -F
complete -c lade -n "__fish_lade_using_subcommand images" -s h -l help -d 'Print help'
complete -c lade -n "__fish_lade_using_subcommand rm" -l store -d 'Where images are kept [default: /var/lib/lade, or $XDG_DATA_HOME/lade without root]' -r -F
complete -c lade -n "__fish_lade_using_subcommand rm" -s h -l help -d 'Print help'
complete -c lade -n "__fish_lade_using_subcommand gc" -l store -d 'Where images are kept [default: /var/lib/lade, or $XDG_DATA_HOME/lade without root]' -r -F
complete -c lade -n "__fish_lade_using_subcommand gc" -s h -l help -d 'Print help'
complete -c lade -n "__fish_lade_using_subcommand bundle" -s e -l env -d 'Set a variable, or pass the caller\'s on' -r
complete -c lade -n "__fish_lade_using_subcommand bundle" -s v -l volume -d 'Show it a file or directory' -r
complete -c lade -n "__fish_lade_using_subcommand bundle" -s w -l workdir -d 'Working directory' -r
complete -c lade -n "__fish_lade_using_subcommand bundle" -s u -l user -d 'Who runs the command' -r
complete -c lade -n "__fish_lade_using_subcommand bundle" -l entrypoint -d 'Replace the image\'s entry point and command' -r
complete -c lade -n "__fish_lade_using_subcommand bundle" -l net -d 'An own network with a loopback interface only, or the host\'s with its /etc/resolv.conf and /etc/hosts' -r -f -a "none\t''
host\t''"
complete -c lade -n "__fish_lade_using_subcommand bundle" -l hostname -d 'Its name of the host [default: its name]' -r
complete -c lade -n "__fish_lade_using_subcommand bundle" -l store -d 'Where images are kept [default: /var/lib/lade, or $XDG_DATA_HOME/lade without root]' -r -F
complete -c lade -n "__fish_lade_using_subcommand bundle" -l copy -d 'Copy the layers into a plain directory instead of mounting them'
complete -c lade -n "__fish_lade_using_subcommand bundle" -s t -l tty -d 'Give it a terminal'
complete -c lade -n "__fish_lade_using_subcommand bundle" -s h -l help -d 'Print help'
complete -c lade -n "__fish_lade_using_subcommand unbundle" -l store -d 'Where images are kept [default: /var/lib/lade, or $XDG_DATA_HOME/lade without root]' -r -F
complete -c lade -n "__fish_lade_using_subcommand unbundle" -s h -l help -d 'Print help'
complete -c lade -n "__fish_lade_using_subcommand run" -l platform -d 'Platform of the image [default: this one]' -r
complete -c lade -n "__fish_lade_using_subcommand run" -l ca -d 'Certificate authority to trust as well (PEM)' -r -F
complete -c lade -n "__fish_lade_using_subcommand run" -l cert -d 'Client\'s certificate (PEM)' -r -F
complete -c lade -n "__fish_lade_using_subcommand run" -l key -d 'Client\'s private key (PEM)' -r -F
complete -c lade -n "__fish_lade_using_subcommand run" -l creds -d 'Credentials for the registry' -r
complete -c lade -n "__fish_lade_using_subcommand run" -l authfile -d 'Docker\'s config.json or containers\' auth.json' -r -F
complete -c lade -n "__fish_lade_using_subcommand run" -l hosts-dir -d 'Directory with a hosts.toml for each registry' -r -F
complete -c lade -n "__fish_lade_using_subcommand run" -s e -l env -d 'Set a variable, or pass the caller\'s on' -r
complete -c lade -n "__fish_lade_using_subcommand run" -s v -l volume -d 'Show it a file or directory' -r
complete -c lade -n "__fish_lade_using_subcommand run" -s w -l workdir -d 'Working directory' -r
complete -c lade -n "__fish_lade_using_subcommand run" -s u -l user -d 'Who runs the command' -r
complete -c lade -n "__fish_lade_using_subcommand run" -l entrypoint -d 'Replace the image\'s entry point and command' -r
complete -c lade -n "__fish_lade_using_subcommand run" -l net -d 'An own network with a loopback interface only, or the host\'s with its /etc/resolv.conf and /etc/hosts' -r -f -a "none\t''
host\t''"
complete -c lade -n "__fish_lade_using_subcommand run" -l hostname -d 'Its name of the host [default: its name]' -r
complete -c lade -n "__fish_lade_using_subcommand run" -l name -d 'Name of the container [default: made up]' -r
complete -c lade -n "__fish_lade_using_subcommand run" -l store -d 'Where images are kept [default: /var/lib/lade, or $XDG_DATA_HOME/lade without root]' -r -F
complete -c lade -n "__fish_lade_using_subcommand run" -s q -l quiet -d 'Print nothing but errors'
complete -c lade -n "__fish_lade_using_subcommand run" -l plain-http -d 'Talk http, not https, to the registry'
complete -c lade -n "__fish_lade_using_subcommand run" -l insecure-skip-verify -d 'Accept any certificate'
complete -c lade -n "__fish_lade_using_subcommand run" -l copy -d 'Copy the layers into a plain directory instead of mounting them'
complete -c lade -n "__fish_lade_using_subcommand run" -s t -l tty -d 'Give it a terminal'
complete -c lade -n "__fish_lade_using_subcommand run" -s d -l detach -d 'Return when it has started and print its name; its output goes to run/NAME/.lade/log in the store'
complete -c lade -n "__fish_lade_using_subcommand run" -s i -l interactive -d 'Nothing, for those used to it: a container in the foreground reads lade\'s input anyway'
complete -c lade -n "__fish_lade_using_subcommand run" -l rm -d 'Remove a detached container when it ends'
complete -c lade -n "__fish_lade_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lade -n "__fish_lade_using_subcommand delete" -l store -d 'Where images are kept [default: /var/lib/lade, or $XDG_DATA_HOME/lade without root]' -r -F
complete -c lade -n "__fish_lade_using_subcommand delete" -s f -l force -d 'Kill what still runs'
complete -c lade -n "__fish_lade_using_subcommand delete" -l when-stopped -d 'Wait for its end first'
complete -c lade -n "__fish_lade_using_subcommand delete" -s h -l help -d 'Print help'
complete -c lade -n "__fish_lade_using_subcommand help; and not __fish_seen_subcommand_from pull images rm gc bundle unbundle run delete help" -f -a "pull" -d 'Pull an image into the store'
complete -c lade -n "__fish_lade_using_subcommand help; and not __fish_seen_subcommand_from pull images rm gc bundle unbundle run delete help" -f -a "images" -d 'List the stored images'
complete -c lade -n "__fish_lade_using_subcommand help; and not __fish_seen_subcommand_from pull images rm gc bundle unbundle run delete help" -f -a "rm" -d 'Remove images by name; `gc` frees their space'
complete -c lade -n "__fish_lade_using_subcommand help; and not __fish_seen_subcommand_from pull images rm gc bundle unbundle run delete help" -f -a "gc" -d 'Remove layers that no image and no bundle needs, and what killed calls left, beginnings of blobs too'
complete -c lade -n "__fish_lade_using_subcommand help; and not __fish_seen_subcommand_from pull images rm gc bundle unbundle run delete help" -f -a "bundle" -d 'Make a bundle of a stored image'
complete -c lade -n "__fish_lade_using_subcommand help; and not __fish_seen_subcommand_from pull images rm gc bundle unbundle run delete help" -f -a "unbundle" -d 'Unmount and remove a bundle that `bundle` made and in which no container runs'
complete -c lade -n "__fish_lade_using_subcommand help; and not __fish_seen_subcommand_from pull images rm gc bundle unbundle run delete help" -f -a "run" -d 'Run a command in a new container of an image'
complete -c lade -n "__fish_lade_using_subcommand help; and not __fish_seen_subcommand_from pull images rm gc bundle unbundle run delete help" -f -a "delete" -d 'Remove containers that `run --detach` has left'
complete -c lade -n "__fish_lade_using_subcommand help; and not __fish_seen_subcommand_from pull images rm gc bundle unbundle run delete help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
