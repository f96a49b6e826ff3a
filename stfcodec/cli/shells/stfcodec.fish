# Completion of stfcodec for fish, as 'stfcodec completion fish' prints it.

function __stfcodec_complete
    set -lx _STFCODEC_COMPLETE fish_complete
    set -lx COMP_WORDS (commandline -cp)
    set -lx COMP_CWORD (commandline -ct)
    set -l option (string match -r '^--[^=]*=' -- $COMP_CWORD)
    for line in (stfcodec 2>/dev/null)
        set -l parts (string split \t -- $line)
        switch $parts[1]
            case plain
                printf '%s%s\t%s\n' "$option" $parts[2] "$parts[3]"
            case dir
                __fish_complete_directories $COMP_CWORD
            case file
                __fish_complete_path $COMP_CWORD
            case stream
                __fish_complete_suffix .stf
        end
    end
end

complete --command stfcodec --no-files --arguments '(__stfcodec_complete)'
