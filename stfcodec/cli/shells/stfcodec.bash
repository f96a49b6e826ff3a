# Completion of stfcodec for bash 4.4 or newer, as 'stfcodec completion bash' prints it.

_stfcodec() {
    local IFS=$'\n'
    local word=${COMP_WORDS[COMP_CWORD]} kind value explanation
    [[ $word == "=" ]] && word=
    COMPREPLY=()
    while IFS=$'\t' read -r kind value explanation; do
        case $kind in
            plain) COMPREPLY+=("$value") ;;
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            stream) _stfcodec_streams "$word" ;;
        esac
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \
        _STFCODEC_COMPLETE=bash_complete exec "$1" 2>/dev/null)
}

# .stf files and folders, or all files where there is no .stf file.
_stfcodec_streams() {
    local name=${1#[\"\']}
    name=${name//\\/}
    local streams=($(compgen -f -X '!*.stf' -- "$name"))
    if ((${#streams[@]})); then
        compopt -o filenames
        COMPREPLY=("${streams[@]}" $(compgen -d -- "$name"))
    else
        compopt -o default
    fi
}

complete -o nosort -F _stfcodec stfcodec
