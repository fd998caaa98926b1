# bash completion for cmif: commands, and the options that each command's --help lists
_cmif()
{
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W "$(cmif --help | sed -n 's/^  \([a-z-]*\)  .*/\1/p')" -- "$word"))
        return
    fi
    [ "$command" = bench ] && command="bench $([ "${COMP_WORDS[2]}" = verify ] && echo verify || echo split)"
    if [ "$COMP_CWORD" = 2 ] && [[ $command = channel || $command = lexicon ]]; then
        [ "$command" = channel ] && COMPREPLY=($(compgen -W "build check show compare rows" -- "$word")) ||
            COMPREPLY=($(compgen -W "build lists lm" -- "$word"))
        return
    fi
    if [ "$COMP_CWORD" = 2 ] && [ "$command" = collateral ]; then
        COMPREPLY=($(compgen -W "add list check export remove" -- "$word"))
        return
    fi
    if [ "$COMP_CWORD" = 2 ] && [ "$command" = budget ]; then
        COMPREPLY=($(compgen -W "show set history" -- "$word"))
        return
    fi
    if [ "$COMP_CWORD" = 2 ] && [ "$command" = policy ]; then
        COMPREPLY=($(compgen -W "show check init" -- "$word"))
        return
    fi
    [[ $command = channel || $command = lexicon || $command = budget || $command = policy || $command = collateral ]] && command="$command ${COMP_WORDS[2]}"
    [[ $command = 'lexicon lm' || $command = 'lexicon lists' ]] && command="$command build"
    case $before in
        --mechanism) COMPREPLY=($(compgen -W "rnm subset krr general metric full paper custext custext+ santext santext+" -- "$word")) ;;
        --mechanisms) COMPREPLY=($(compgen -W "all clean control santext santext+ metric custext custext+ custext+code paper paper-half rnm subset krr full general-k20 general-k100 general-k200" -- "$word")) ;;
        --setting) COMPREPLY=($(compgen -W "I A" -- "$word")) ;;
        eval) COMPREPLY=($(compgen -W "sst2 subjectivity qnli mrpc similarity sst2-zero-shot chat xsum" -- "$word") $(compgen -f -- "$word")) ;;
        --noise) COMPREPLY=($(compgen -W "laplace exponential gumbel" -- "$word")) ;;
        -p|--profile) COMPREPLY=($(compgen -W "paper default strict" -- "$word")) ;;
        --rows) COMPREPLY=($(compgen -W "f32 f16 bf16 q8_0 ids auto plain bayes context" -- "$word")) ;;
        --evidence) COMPREPLY=($(compgen -W "tdx snp sgx tpm sim" -- "$word")) ;;
        --collateral) COMPREPLY=($(compgen -W "auto none" -- "$word") $(compgen -f -- "$word")) ;;
        --policy) COMPREPLY=($(compgen -W "names topics words none" -- "$word") $(compgen -f -- "$word")) ;;
        --stop-words) COMPREPLY=($(compgen -W "pass protect" -- "$word")) ;;
        pull) COMPREPLY=($(compgen -W "smollm2 minilm lexicon names" -- "$word")) ;;
        *)
            if [[ $word = -* ]]; then
                COMPREPLY=($(compgen -W "$(cmif $command --help | grep -o -e '--[a-z][a-z-]*' | sort -u)" -- "$word"))
            else
                COMPREPLY=($(compgen -f -- "$word"))
                [[ $command != 'policy show' && $command != 'policy init' ]] || COMPREPLY+=($(compgen -W "names topics words" -- "$word"))
                [ "$before" != -m ] && [ "$before" != --model ] ||
                    COMPREPLY+=($(cd "${XDG_CACHE_HOME:-$HOME/.cache}/cmif/models" 2>/dev/null && compgen -G "$word*.gguf" | sed 's/\.gguf$//'))
            fi ;;
    esac
}
complete -o filenames -F _cmif cmif
