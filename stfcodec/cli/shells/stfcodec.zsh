#compdef stfcodec
# Completion of stfcodec for zsh, as 'stfcodec completion zsh' prints it.

_stfcodec() {
    local -a words_found
    local answer line kind value explanation files
    answer=$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) \
        _STFCODEC_COMPLETE=zsh_complete ${words[1]} 2>/dev/null)
    for line in ${(f)answer}; do
        IFS=$'\t' read -r kind value explanation <<< $line
        case $kind in
            plain) words_found+=("${value//:/\\:}${explanation:+:$explanation}") ;;
            *) files=$kind ;;
        esac
    done
    [[ $PREFIX == --*=* ]] && compset -P 1 '*='
    case $files in
        dir) _files -/ ;;
        file) _files ;;
        stream) _files -g '*.stf' ;;
        *) _describe -V stfcodec words_found ;;
    esac
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _stfcodec "$@"
else
    compdef _stfcodec stfcodec
fi
