#include "lexicon/draft.h"

/* Chosen by us: pronouns, auxiliaries, determiners, conjunctions, prepositions, plain adverbs of English, contractions
 * whole and in the parts that splitting at apostrophes leaves ("don't" may be a word or "don" and "t"; "does n't", as
 * some text is written, has an "n"). */
const char cmif_pass_words[] =
    "i me my myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers "
    "herself it its itself they them their theirs themselves one what which who whom whose this that these those "
    "am is are was were be been being have has had having do does did doing done will would shall should can "
    "could may might must ought a an the and but or if because as until while although though unless since "
    "whether than so yet of at by for with about against between into through during before after above below to "
    "from up down in out on off over under upon toward within across along around behind near except again "
    "further then once here there when where why how all any both each few more most other some such own same too "
    "very just now only also every either whereas anything everything something let ll ve re d m o s t y n ma na "
    "gon ta ain aren couldn didn doesn don hadn hasn haven isn mightn mustn needn shan shouldn wasn weren won "
    "wouldn i'm i've i'll i'd you're you've you'll you'd he's he'll he'd she's she'll she'd it's it'll it'd we're "
    "we've we'll we'd they're they've they'll they'd that's that'll that'd there's here's what's who's where's "
    "how's let's should've would've could've might've aren't couldn't didn't doesn't don't hadn't hasn't haven't "
    "isn't mightn't mustn't needn't shan't shouldn't wasn't weren't won't wouldn't ain't can't ";

/* What turns a sentence round. Contractions with n't are above: they stand and fall with their auxiliary. */
const char cmif_negation_words[] =
    "not no nor never none nothing nobody nowhere neither without cannot hardly barely scarcely rarely seldom "
    "little less least lack lacks lacked lacking fail fails failed unable nope nah nay minus instead devoid "
    "absent void ";
