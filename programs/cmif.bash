# bash completion for cmif: commands, and the options that each command's --help lists
_cmif()
{
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W "$(cmif --help | sed -n 's/^  \([a-z]*\)  .*/\1/p')" -- "$word"))
        return
    fi
    [ "$command" = bench ] && command='bench split'
    case $before in
        --rows) COMPREPLY=($(compgen -W "f32 f16 bf16 q8_0 ids" -- "$word")) ;;
        pull) COMPREPLY=($(compgen -W "smollm2 minilm" -- "$word")) ;;
        *)
            if [[ $word = -* ]]; then
                COMPREPLY=($(compgen -W "$(cmif $command --help | grep -o -e '--[a-z][a-z-]*' | sort -u)" -- "$word"))
            else
                COMPREPLY=($(compgen -f -- "$word"))
                [ "$before" != -m ] && [ "$before" != --model ] ||
                    COMPREPLY+=($(cd "${XDG_CACHE_HOME:-$HOME/.cache}/cmif/models" 2>/dev/null && compgen -G "$word*.gguf" | sed 's/\.gguf$//'))
            fi ;;
    esac
}
complete -o filenames -F _cmif cmif
