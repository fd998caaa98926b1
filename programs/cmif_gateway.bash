# bash completion for cmif-gateway: the options that its --help lists
_cmif_gateway()
{
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    case $before in
        --policy) COMPREPLY=($(compgen -W "names topics words none" -- "$word") $(compgen -f -- "$word")) ;;
        --kind) COMPREPLY=($(compgen -W "openai vllm sglang cmif" -- "$word")) ;;
        *)
            if [[ $word = -* ]]; then
                COMPREPLY=($(compgen -W "$(cmif-gateway --help | grep -o -e '--[a-z][a-z-]*' | sort -u)" -- "$word"))
            else
                COMPREPLY=($(compgen -f -- "$word"))
            fi ;;
    esac
}
complete -o filenames -F _cmif_gateway cmif-gateway
