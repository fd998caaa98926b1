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

/* What no sanitizer may put into a person's mouth, and WordNet does not mark, or marks in one of many senses only:
 * obscenities, slurs, sexual crimes. With their forms, for lexicons without WordNet. */
const char cmif_rude_words[] =
    "arse arsed arsehole arseholes arses ass asses asshat asshole assholes bastard bastards beaner beaners "
    "bellend bestiality biatch bimbo bimbos bitch bitchass bitches bitchin bitching bitchy blowjob blowjobs "
    "bollocks boner boners boob boobies boobs bugger buggered buggering buggers buggery bukkake bullshit "
    "bullshitting butthole buttplug chav chavs chickenshit chinaman chink chinks chinky clit clits cock cocks "
    "cocksucker cocksuckers coon coons crap crappy cretin cretins cripple cripples cuck cucks cum cums cumshot "
    "cunnilingus cunt cunts cunty dago dagos damnit darkie darkies darky deepthroat dick dickhead dickheads dicks "
    "dildo dildos dipshit dipshits dogshit douche douchebag douchebags douches dumbass dumbasses dumbfuck dyke "
    "dykes fag faggot faggots faggy fags fatass fellatio fisting floozy fuck fucka fuckboy fucked fucken fucker "
    "fuckers fuckery fuckface fuckhead fuckheads fuckin fucking fuckoff fucks fucktard fuckup fuckwit gangbang "
    "gangbanged gangbanger gangbangs gimp goddam goddamit goddamn goddamned goddamnit golliwog gook gooks "
    "halfbreed handjob hardon harlot harlots hebe heeb hentai hoe hoes homo homos honkey honkies honky hooker "
    "hookers horny horseshit hussy incest incestuous injun injuns jackoff jailbait jap japs jiggaboo jizz kaffir "
    "kaffirs kike kikes kkk knobhead kraut krauts lezbo lezzie lmfao masturbate masturbated masturbates "
    "masturbating masturbation masturbator midget midgets milf milfs mofo mofos molest molestation molested "
    "molester molesters molesting molests mong mongoloid mongoloids mongrel mongrels motherfuck motherfucka "
    "motherfucker motherfuckers motherfuckin motherfucking mulatto mulattoes mulattos muthafucka nazi nazis jihadi "
    "jihadis jihadist jihadists "
    "necrophilia negress negro negroes negroid negros nig niga nigga niggas niggaz nigger niggers nigra nutsack "
    "nympho orgies orgy paedo paedophile paedophiles paedophilia paedos paki pakis pecker peckers pedo pedophile "
    "pedophiles pedophilia pedos perv pervert perverts pervs pikey pikeys pimp pimps piss pissed pisses pissing "
    "pissy polack polacks ponce poof poofs poofter porn pornhub porno pornographer pornographers pornographic "
    "pornography pornos pornstar pornstars prick pricks pussies pussy queer queers raghead ragheads rape raped "
    "raper rapers rapes rapey raping rapist rapists redneck rednecks redskin redskins retard retarded retards "
    "rimjob sambo schlong scumbag scumbags shemale shemales shit shite shitface shitfaced shithead shitheads "
    "shithole shitholes shithouse shitless shitload shits shitshow shitstorm shitted shitter shittier shittiest "
    "shitting shitty shylock shylocks skank skanks skanky slag slags slut sluts slutty smegma sodomise sodomised "
    "sodomite sodomites sodomize sodomized sodomy spastic spastics spaz spic spick spicks spics squaw squaws stfu "
    "tard tards tit titfuck tits titties titty tosser tossers trannies tranny turd turds twat twats twink upskirt "
    "wank wanked wanker wankers wanking wanks wetback wetbacks whore whored whorehouse whorehouses whores whoring "
    "whorish wog wogs wop wops wtf yid yids zipperhead ";
