#include "lexicon/draft.h"

#include <stdlib.h>
#include <string.h>

enum { GLOSSES_MAX = 3 /* of a word */ };

/* How much a reading counts beside others of the same spelling: SemCor counts lemmas, and a form is a part of its
 * lemma's uses. */
static double share_of_form(int inflection)
{
    switch (inflection) {
    case CMIF_CLASS_VERB_S:
    case CMIF_CLASS_VERB_D:
    case CMIF_CLASS_VERB_G:
        return .3;
    case CMIF_CLASS_NOUNS:
    case CMIF_CLASS_COMPARATIVE:
    case CMIF_INFLECTION_SUPERLATIVE:
        return .5;
    default:
        return 1;
    }
}

/* Of a verb's uses, how many are in the form that may be a noun, too. */
static const double BASE_FORM = .6;

/* A word in one sense of one of its lemmas. */
typedef struct entry {
    uint32_t word, synset, lemma;
    uint8_t  inflection;
    double   weight, share; /* share: of all senses of the word */
} entry;

typedef struct pair {
    uint32_t a, b;
    double   weight;
} pair;

typedef struct relation {
    cmif_lexicon       *lex;
    const cmif_wordnet *net;
    entry              *entries; /* by word, later by synset, inflection, word */
    size_t              count, capacity;
    size_t             *first;  /* [synsets + 1] entries of a synset */
    uint16_t           *topics; /* [synsets] */
    pair               *pairs;
    size_t              pair_count, pair_capacity;
} relation;

/* ---- analyses: class, lemma, entries ---- */

static cmif_code add_entries(relation *r, const cmif_map *ids, uint32_t word, cmif_err *err)
{
    cmif_analysis analyses[CMIF_ANALYSES_MAX];
    double        by_form[CMIF_INFLECTION_SUPERLATIVE + 1] = {0};
    double        total = 0, best = 0;
    uint32_t      lemma = CMIF_MAP_NONE;
    size_t        from  = r->count;

    size_t count = cmif_wordnet_analyse(r->net, r->lex->words[word], analyses);
    for (size_t i = 0; i < count; i++) {
        const cmif_lemma *of  = &r->net->lemmas[analyses[i].lemma];
        double            sum = 0;
        for (uint32_t rank = 0; rank < of->sense_count; rank++) {
            const cmif_sense *sense  = &r->net->senses[of->first_sense + rank];
            double            weight = share_of_form(analyses[i].inflection) * (sense->count + .5 / (rank + 1));
            if (!cmif_grow(&r->entries, &r->capacity, r->count, sizeof *r->entries)) {
                return cmif_fail(err, CMIF_E_MEMORY, "no memory for the senses of words");
            }
            r->entries[r->count++] = (entry){.word       = word,
                                             .synset     = sense->synset,
                                             .lemma      = analyses[i].lemma,
                                             .inflection = analyses[i].inflection,
                                             .weight     = weight};
            sum += weight;
        }
        by_form[analyses[i].inflection] += sum;
        total += sum;
        if (sum > best) {
            best  = sum;
            lemma = cmif_map_get(ids, of->text);
        }
    }
    for (size_t i = from; i < r->count; i++) {
        r->entries[i].share = r->entries[i].weight / total;
    }
    r->lex->lemma[word] = lemma == CMIF_MAP_NONE ? word : lemma;
    if (r->lex->word_class[word] == CMIF_CLASS_UNKNOWN && count) {
        int heaviest = CMIF_CLASS_NOUN;
        if (by_form[CMIF_CLASS_ADJECTIVE] > 0) {
            by_form[CMIF_CLASS_ADJECTIVE] += .3;
        }
        by_form[CMIF_CLASS_COMPARATIVE] += by_form[CMIF_INFLECTION_SUPERLATIVE];
        by_form[CMIF_CLASS_VERB] *= BASE_FORM; /* a nurse is a noun */
        for (int form = CMIF_CLASS_NOUN; form <= CMIF_CLASS_ADVERB; form++) {
            heaviest = by_form[form] > by_form[heaviest] ? form : heaviest;
        }
        r->lex->word_class[word] = (uint8_t) heaviest;
    }
    return CMIF_OK;
}

static int by_synset(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->synset != y->synset) {
        return x->synset < y->synset ? -1 : 1;
    }
    if (x->inflection != y->inflection) {
        return x->inflection - y->inflection;
    }
    if (x->word != y->word) {
        return x->word < y->word ? -1 : 1;
    }
    return (x->lemma > y->lemma) - (x->lemma < y->lemma);
}

/* ---- glosses: the heaviest senses of each word, before entries are put in order of synsets ---- */

typedef struct gloss_use {
    uint64_t key;   /* lemma, synset */
    uint32_t sense; /* index into sense_gloss */
} gloss_use;

static int by_key(const void *a, const void *b)
{
    const gloss_use *x = a, *y = b;
    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return (x->sense > y->sense) - (x->sense < y->sense);
}

/* "lemma, synonym, synonym: definition" into text, which has room; returns the size. */
static size_t put_gloss(const cmif_wordnet *net, uint32_t lemma, uint32_t synset_id, char *text)
{
    const cmif_synset *synset = &net->synsets[synset_id];
    cmif_str           own    = net->lemmas[lemma].text;
    size_t             size   = own.size;

    memcpy(text, own.data, own.size);
    for (uint32_t i = 0; i < synset->word_count; i++) {
        cmif_str word = net->words[synset->first_word + i];
        if (word.size == own.size && strncasecmp(word.data, own.data, own.size) == 0) {
            continue;
        }
        memcpy(text + size, ", ", 2);
        memcpy(text + size + 2, word.data, word.size);
        size += 2 + word.size;
    }
    for (size_t i = 0; i < size; i++) {
        text[i] = text[i] == '_' ? ' ' : text[i];
    }
    size_t definition = synset->gloss.size;
    for (size_t i = 0; i + 2 < synset->gloss.size; i++) {
        if (memcmp(synset->gloss.data + i, "; \"", 3) == 0) {
            definition = i;
            break;
        }
    }
    memcpy(text + size, ": ", 2);
    memcpy(text + size + 2, synset->gloss.data, definition);
    return size + 2 + definition;
}

static size_t gloss_room(const cmif_wordnet *net, uint64_t key)
{
    const cmif_synset *synset = &net->synsets[key & UINT32_MAX];
    size_t             size   = net->lemmas[key >> 32].text.size + 2 + synset->gloss.size;
    for (uint32_t i = 0; i < synset->word_count; i++) {
        size += 2 + net->words[synset->first_word + i].size;
    }
    return size;
}

/* The heaviest (lemma, synset) of entries [from, to): at most GLOSSES_MAX into heaviest, falling; equal ones in the
 * order of entries. */
static size_t heaviest_senses(const relation *r, size_t from, size_t to, entry heaviest[GLOSSES_MAX + 1])
{
    size_t count = 0;
    for (size_t i = from; i < to; i++) {
        entry e      = r->entries[i];
        bool  before = false;
        for (size_t j = from; j < to; j++) { /* two forms of one lemma count together, at the first */
            if (j != i && r->entries[j].lemma == e.lemma && r->entries[j].synset == e.synset) {
                before |= j < i;
                e.weight += r->entries[j].weight;
            }
        }
        size_t at = count;
        while (!before && at > 0 && heaviest[at - 1].weight < e.weight) {
            heaviest[at] = heaviest[at - 1];
            at--;
        }
        if (!before && at < GLOSSES_MAX) {
            heaviest[at] = e;
            count += count < GLOSSES_MAX;
        }
    }
    return count;
}

static cmif_code add_glosses(relation *r, const size_t *first_of_word, cmif_err *err)
{
    cmif_code     rc   = CMIF_OK;
    cmif_lexicon *lex  = r->lex;
    size_t        most = GLOSSES_MAX * ((size_t) lex->count + 1), count = 0, room = 1, used = 0;
    gloss_use    *uses = malloc(most * sizeof *uses);
    char         *text = NULL;
    entry         heaviest[GLOSSES_MAX + 1];

    lex->gloss_first  = calloc((size_t) lex->count + 1, sizeof *lex->gloss_first);
    lex->sense_gloss  = calloc(most, sizeof *lex->sense_gloss);
    lex->sense_weight = calloc(most, sizeof *lex->sense_weight);
    lex->glosses      = calloc(most, sizeof *lex->glosses);
    if (!uses || !lex->gloss_first || !lex->sense_gloss || !lex->sense_weight || !lex->glosses) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for glosses");
        goto done;
    }
    for (uint32_t word = 0; word < lex->count; word++) {
        size_t n = heaviest_senses(r, first_of_word[word], first_of_word[word + 1], heaviest);
        for (size_t i = 0; i < n; i++, count++) {
            lex->sense_weight[count] = (float) heaviest[i].weight;
            uses[count] = (gloss_use){(uint64_t) heaviest[i].lemma << 32 | heaviest[i].synset, (uint32_t) count};
        }
        lex->gloss_first[word + 1] = (uint32_t) count;
    }
    if (count) {
        qsort(uses, count, sizeof *uses, by_key);
    }
    for (size_t i = 0; i < count; i++) {
        room += i == 0 || uses[i].key != uses[i - 1].key ? gloss_room(r->net, uses[i].key) : 0;
    }
    text = malloc(room);
    if (!text) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for glosses");
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || uses[i].key != uses[i - 1].key) {
            size_t size = put_gloss(r->net, (uint32_t) (uses[i].key >> 32), (uint32_t) uses[i].key, text + used);
            lex->glosses[lex->gloss_count++] = (cmif_str){text + used, size};
            used += size;
        }
        lex->sense_gloss[uses[i].sense] = lex->gloss_count - 1;
    }
    cmif_draft_own(lex, text);
done:
    free(uses);
    return rc;
}

/* ---- topics ---- */

/* Noun synsets of WordNet 3.0 below which (hyponyms and instances), about which (domain, pertainym, derivation) words
 * have a topic. */
static const struct {
    uint32_t    offset;
    const char *lemma; /* in that synset, so that another WordNet gives no topics instead of wrong ones */
    uint16_t    topic;
} roots[] = {
    {14052046, "ill_health", CMIF_TOPIC_HEALTH},
    {14070360, "disease", CMIF_TOPIC_HEALTH},
    {14083790, "mental_disorder", CMIF_TOPIC_HEALTH},
    {14299637, "symptom", CMIF_TOPIC_HEALTH},
    {14285662, "injury", CMIF_TOPIC_HEALTH},
    {14548343, "disability", CMIF_TOPIC_HEALTH},
    {14046202, "pregnancy", CMIF_TOPIC_HEALTH},
    {14064408, "drug_addiction", CMIF_TOPIC_HEALTH},
    {6043075, "medicine", CMIF_TOPIC_HEALTH},
    {612160, "medicine", CMIF_TOPIC_HEALTH},
    {6055946, "psychiatry", CMIF_TOPIC_HEALTH},
    {6060845, "pathology", CMIF_TOPIC_HEALTH},
    {3247620, "drug", CMIF_TOPIC_HEALTH},
    {3740161, "medicine", CMIF_TOPIC_HEALTH},
    {1059900, "health_care", CMIF_TOPIC_HEALTH},
    {657604, "medical_care", CMIF_TOPIC_HEALTH},
    {661091, "therapy", CMIF_TOPIC_HEALTH},
    {671351, "surgical_procedure", CMIF_TOPIC_HEALTH},
    {230324, "abortion", CMIF_TOPIC_HEALTH},
    {10165109, "health_professional", CMIF_TOPIC_HEALTH},
    {10305802, "medical_practitioner", CMIF_TOPIC_HEALTH},
    {10595647, "sick_person", CMIF_TOPIC_HEALTH},
    {9769076, "addict", CMIF_TOPIC_HEALTH},
    {9768830, "addict", CMIF_TOPIC_HEALTH},
    {8053905, "medical_institution", CMIF_TOPIC_HEALTH},
    {3739518, "medical_building", CMIF_TOPIC_HEALTH},

    {13372961, "medium_of_exchange", CMIF_TOPIC_MONEY},
    {13250542, "money", CMIF_TOPIC_MONEY},
    {13250398, "wealth", CMIF_TOPIC_MONEY},
    {13353280, "wealth", CMIF_TOPIC_MONEY},
    {14491271, "wealth", CMIF_TOPIC_MONEY},
    {14488317, "financial_condition", CMIF_TOPIC_MONEY},
    {14490319, "indebtedness", CMIF_TOPIC_MONEY},
    {14493145, "poverty", CMIF_TOPIC_MONEY},
    {14478433, "bankruptcy", CMIF_TOPIC_MONEY},
    {13254805, "gain", CMIF_TOPIC_MONEY},
    {13275847, "cost", CMIF_TOPIC_MONEY},
    {13327896, "financial_loss", CMIF_TOPIC_MONEY},
    {13308999, "tax", CMIF_TOPIC_MONEY},
    {13397174, "debt", CMIF_TOPIC_MONEY},
    {13398953, "loan", CMIF_TOPIC_MONEY},
    {13278375, "payment", CMIF_TOPIC_MONEY},
    {13279262, "wage", CMIF_TOPIC_MONEY},
    {13344804, "insurance", CMIF_TOPIC_MONEY},
    {13416345, "security", CMIF_TOPIC_MONEY},
    {13359690, "bank_account", CMIF_TOPIC_MONEY},
    {1120448, "payment", CMIF_TOPIC_MONEY},
    {1098698, "finance", CMIF_TOPIC_MONEY},
    {6150633, "finance", CMIF_TOPIC_MONEY},
    {1134037, "finance", CMIF_TOPIC_MONEY},
    {8054721, "financial_institution", CMIF_TOPIC_MONEY},
    {10090020, "financier", CMIF_TOPIC_MONEY},
    {9609232, "capitalist", CMIF_TOPIC_MONEY},
    {13352138, "mortgage", CMIF_TOPIC_MONEY},
    {13421462, "budget", CMIF_TOPIC_MONEY},

    {8441203, "law", CMIF_TOPIC_LAW},
    {6532330, "law", CMIF_TOPIC_LAW},
    {6161718, "law", CMIF_TOPIC_LAW},
    {611143, "law", CMIF_TOPIC_LAW},
    {8209687, "law", CMIF_TOPIC_LAW},
    {6479665, "legal_document", CMIF_TOPIC_LAW},
    {1181902, "legal_action", CMIF_TOPIC_LAW},
    {1184814, "legal_proceeding", CMIF_TOPIC_LAW},
    {1192150, "verdict", CMIF_TOPIC_LAW},
    {5177285, "legal_right", CMIF_TOPIC_LAW},
    {8329453, "court", CMIF_TOPIC_LAW},
    {3120778, "court", CMIF_TOPIC_LAW},
    {10249950, "lawyer", CMIF_TOPIC_LAW},
    {10225219, "judge", CMIF_TOPIC_LAW},
    {10266848, "litigant", CMIF_TOPIC_LAW},
    {10448983, "policeman", CMIF_TOPIC_LAW},

    {5946687, "religion", CMIF_TOPIC_RELIGION},
    {8081668, "religion", CMIF_TOPIC_RELIGION},
    {9628382, "religious_person", CMIF_TOPIC_RELIGION},
    {9505153, "spiritual_leader", CMIF_TOPIC_RELIGION},
    {9505418, "deity", CMIF_TOPIC_RELIGION},
    {1028655, "worship", CMIF_TOPIC_RELIGION},
    {1028082, "religious_ceremony", CMIF_TOPIC_RELIGION},
    {1041968, "prayer", CMIF_TOPIC_RELIGION},
    {7189130, "prayer", CMIF_TOPIC_RELIGION},
    {3953416, "place_of_worship", CMIF_TOPIC_RELIGION},
    {6429590, "sacred_text", CMIF_TOPIC_RELIGION},
    {15183802, "holy_day", CMIF_TOPIC_RELIGION},
    {6449735, "Old_Testament", CMIF_TOPIC_RELIGION},
    {6453849, "New_Testament", CMIF_TOPIC_RELIGION},
    {9682291, "Muslim", CMIF_TOPIC_RELIGION},
    {9681351, "Jew", CMIF_TOPIC_RELIGION | CMIF_TOPIC_ETHNICITY},

    {844254, "sexual_activity", CMIF_TOPIC_SEX},
    {7487955, "sexual_desire", CMIF_TOPIC_SEX},
    {7487695, "sex", CMIF_TOPIC_SEX},
    {5513302, "sex_organ", CMIF_TOPIC_SEX},
    {5514081, "genitalia", CMIF_TOPIC_SEX},
    {10182913, "homosexual", CMIF_TOPIC_SEX},
    {10485440, "prostitute", CMIF_TOPIC_SEX},
    {747215, "pornography", CMIF_TOPIC_SEX},
    {852181, "contraception", CMIF_TOPIC_SEX},
    {14133159, "venereal_disease", CMIF_TOPIC_SEX | CMIF_TOPIC_HEALTH},
    {13967581, "virginity", CMIF_TOPIC_SEX},
    {10257647, "libertine", CMIF_TOPIC_SEX},

    {611972, "politics", CMIF_TOPIC_POLITICS},
    {1124508, "politics", CMIF_TOPIC_POLITICS},
    {6148148, "politics", CMIF_TOPIC_POLITICS},
    {6149192, "politics", CMIF_TOPIC_POLITICS},
    {13840719, "politics", CMIF_TOPIC_POLITICS},
    {6212839, "political_orientation", CMIF_TOPIC_POLITICS},
    {8256968, "political_party", CMIF_TOPIC_POLITICS},
    {8050678, "government", CMIF_TOPIC_POLITICS},
    {1124794, "government", CMIF_TOPIC_POLITICS},
    {8367880, "political_system", CMIF_TOPIC_POLITICS},
    {8163273, "legislature", CMIF_TOPIC_POLITICS},
    {10451263, "politician", CMIF_TOPIC_POLITICS},
    {10450303, "politician", CMIF_TOPIC_POLITICS},
    {10253995, "legislator", CMIF_TOPIC_POLITICS},
    {10164747, "head_of_state", CMIF_TOPIC_POLITICS},
    {181781, "election", CMIF_TOPIC_POLITICS},
    {7472929, "political_campaign", CMIF_TOPIC_POLITICS},
    {183505, "vote", CMIF_TOPIC_POLITICS},
    {10760340, "voter", CMIF_TOPIC_POLITICS},
    {962722, "revolution", CMIF_TOPIC_POLITICS},

    {766234, "crime", CMIF_TOPIC_CRIME},
    {767477, "crime", CMIF_TOPIC_CRIME},
    {9977660, "criminal", CMIF_TOPIC_CRIME},
    {759694, "terrorism", CMIF_TOPIC_CRIME},
    {4005630, "prison", CMIF_TOPIC_CRIME},
    {10476086, "prisoner", CMIF_TOPIC_CRIME},

    {7967382, "ethnic_group", CMIF_TOPIC_ETHNICITY},
    {7967982, "race", CMIF_TOPIC_ETHNICITY},
    {4799133, "ethnicity", CMIF_TOPIC_ETHNICITY},
    {10065547, "ethnic", CMIF_TOPIC_ETHNICITY},
    {9636106, "person_of_color", CMIF_TOPIC_ETHNICITY},
    {9638875, "White", CMIF_TOPIC_ETHNICITY},
    {9636339, "Black", CMIF_TOPIC_ETHNICITY},
    {9637013, "African-American", CMIF_TOPIC_ETHNICITY},
    {9641757, "Asian", CMIF_TOPIC_ETHNICITY},
    {9686536, "European", CMIF_TOPIC_ETHNICITY},
    {9634494, "African", CMIF_TOPIC_ETHNICITY},
    {9720256, "Latin_American", CMIF_TOPIC_ETHNICITY},
    {9725229, "North_American", CMIF_TOPIC_ETHNICITY},
    {9731571, "South_American", CMIF_TOPIC_ETHNICITY},
    {9644820, "Native_American", CMIF_TOPIC_ETHNICITY},
    {9729530, "Arab", CMIF_TOPIC_ETHNICITY},
    {9676884, "Slav", CMIF_TOPIC_ETHNICITY},
    {10154186, "Gypsy", CMIF_TOPIC_ETHNICITY},
    {10629647, "Hispanic", CMIF_TOPIC_ETHNICITY},

    {10235549, "relative", CMIF_TOPIC_FAMILY},
    {13811410, "kinship", CMIF_TOPIC_FAMILY},
    {13812607, "kinship", CMIF_TOPIC_FAMILY},
    {8078020, "family", CMIF_TOPIC_FAMILY},
    {7970406, "family", CMIF_TOPIC_FAMILY},
    {7970721, "family", CMIF_TOPIC_FAMILY},
    {10236304, "family", CMIF_TOPIC_FAMILY},
    {7969695, "kin", CMIF_TOPIC_FAMILY},
    {13963970, "marriage", CMIF_TOPIC_FAMILY},
    {7989373, "marriage", CMIF_TOPIC_FAMILY},
    {1036996, "marriage", CMIF_TOPIC_FAMILY},
    {7452074, "wedding", CMIF_TOPIC_FAMILY},
    {10640620, "spouse", CMIF_TOPIC_FAMILY},
    {10780284, "widow", CMIF_TOPIC_FAMILY},
    {1201271, "divorce", CMIF_TOPIC_FAMILY},
    {10373998, "offspring", CMIF_TOPIC_FAMILY},
    {10399491, "parent", CMIF_TOPIC_FAMILY},
    {10384392, "orphan", CMIF_TOPIC_FAMILY},
};

/* Words that WordNet's hypernyms do not lead to, or to a sense that is too rare, and that a person would not want to
 * see among the words that pass: by lemma, so that their forms follow. */
static const struct {
    uint16_t    topic;
    const char *lemmas;
} listed[] = {
    {CMIF_TOPIC_HEALTH,
     "acne addict addicted addiction adhd aids alcoholism allergic allergy ambulance amputate amputation anemia "
     "anesthesia anorexia antibody antidepressant autism autistic benign biopsy bipolar bleed bowel breast "
     "bronchitis bruise bulimia catheter chemo chemotherapy chlamydia cholesterol clinic coma conceive contagious "
     "contraceptive cough cyst delusion dementia depression diagnose diagnosed diagnosis dialysis disability "
     "disabled dizziness dizzy donor dosage dose drunk eczema epilepsy epileptic faint fertility fever gonorrhea "
     "gp hallucination handicap handicapped hemorrhoid hepatitis herpes hiv hospice hospital hypertension ill "
     "illness implant impotence impotent incontinence incontinent incurable infected infection infertile lithium "
     "erectile "
     "infertility insomnia insulin kidney liver lump lung lupus malignant medication menopause metastasis midwife "
     "miscarriage mri nausea nurse obese obesity opiate opioid overdose overweight painkiller pancreas panic "
     "paralysis paralyzed patient pharmacist pharmacy phobia pill pneumonia pregnant prescribe prescription "
     "prostate prosthesis psoriasis psychosis psychotic ptsd quarantine radiotherapy rehab relapse remission scar "
     "schizophrenia schizophrenic sedative seizure sick sickness sober sperm steroid stroke suicidal suicide "
     "surgeon surgery surgical syphilis terminal therapist therapy thyroid transfusion transplant trauma "
     "traumatic tuberculosis ultrasound unwell uterus vaccinate vaccination vaccine vomit ward wheelchair wound "
     "xray "},
    {CMIF_TOPIC_MONEY,
     "affluent alimony allowance arrears bankrupt bankruptcy benefit benefits bribe broke credit creditor debt "
     "debtor dividend evict eviction expense expenses fired foreclosure gamble gambling heir impoverished income "
     "inherit inheritance insolvency insolvent invoice jackpot landlord layoff lease loan lottery mortgage "
     "overdraft owe owed paycheck payroll pension pensioner poor raise refund rent repay repayment repossess "
     "salary savings severance shares stock stocks taxes tenant unemployed unemployment wager wealthy welfare "},
    {CMIF_TOPIC_LAW,
     "acquit acquitted affidavit alibi arbitration arrest arrested asylum bail citizenship convict convicted "
     "conviction custody damages defendant deport deportation deported detained detention extradition guardian "
     "guardianship guilty immigrant immigration indict indictment infringement injunction innocent judge judgment "
     "lawsuit liability liable litigation malpractice naturalization nda negligence negligent notary parole "
     "patent plaintiff plea probate probation prosecute prosecution prosecutor refugee sentence sentenced "
     "settlement subpoena sue testament testify testimony trial undocumented visa warrant whistleblower witness "},
    {CMIF_TOPIC_RELIGION,
     "agnostic amish atheism atheist baptism baptist baptize baptized bible bishop blasphemy buddhism buddhist "
     "burqa catholic chapel christian christianity church clergy communion confession convert cult evangelical "
     "halal heresy heretic hijab hindu hinduism imam islam islamic jew jewish judaism koran kosher lent lutheran "
     "methodist minister monk mormon mosque muslim nun orthodox pastor pray prayer presbyterian priest protestant "
     "quaker quran rabbi ramadan sabbath salvation secular sikh sinner synagogue temple torah worship "},
    {CMIF_TOPIC_SEX,
     "trans abstinence adultery affair asexual bisexual boyfriend condom ejaculation erection erotic erotica escort "
     "fetish gay girlfriend heterosexual homosexual homosexuality intimacy intimate lesbian libido lover lust "
     "masturbate masturbation mistress naked nonbinary nude nudity orgasm porn pornography prostitute "
     "prostitution queer seduce sexual sexuality sexually transgender transsexual unfaithful viagra virgin "},
    {CMIF_TOPIC_POLITICS,
     "activism activist anarchist anarchy ballot campaign candidate censorship communism communist congress "
     "conservative coup democrat democratic dictator dictatorship dissident fascism fascist feminism feminist "
     "liberal libertarian manifesto marxist minister nationalism nationalist nazi opposition parliament picket "
     "populist propaganda protest protester rebellion referendum regime republican revolution sanction sanctions "
     "senate senator socialism socialist trade union unionist "},
    {CMIF_TOPIC_CRIME,
     "abuse abused abuser abusive arson assault blackmail bomb bombing bribery burglar burglary cannabis cocaine "
     "corruption crime criminal dealer drugs extortion felon felony forge forgery fraud gang gangster gun hacker "
     "hacking harass harassment heroin homicide hostage incest inmate kidnap kidnapping kill killed killer "
     "killing knife launder laundering mafia manslaughter marijuana meth misdemeanor molest molester murder "
     "murderer perjury pistol rape rapist rifle rob robbed robbery shoot shooting shoplifting shot smuggle "
     "smuggling stab stabbing stalk stalker stalking steal stolen terrorism terrorist theft thief trafficking "
     "vandalism violence violent weapon "},
    {CMIF_TOPIC_ETHNICITY,
     "aboriginal african arab arabic asian biracial caste caucasian chicano ethnic ethnicity gypsy hispanic "
     "immigrant indigenous inuit kurd kurdish latina latino maori mestizo migrant mulatto racial racism racist "
     "rohingya roma tamil tribal tribe uyghur "},
    {CMIF_TOPIC_FAMILY,
     "adopt adopted adoption aunt baby child cousin custody dad daughter divorce divorced estranged father fiance "
     "fiancee fiancé fiancée foster grandfather grandmother grandparent husband marriage married marry mom mother "
     "mum nephew niece orphan parent partner separated separation sibling son spouse stepchild stepdaughter "
     "stepfather stepmother stepson toddler twin uncle wedding widow widowed widower wife "},
};

/* Whether a pointer of this symbol hands a topic down from its target. */
static bool inherits(const cmif_synset *from, const cmif_pointer *pointer, const cmif_synset *to)
{
    switch (pointer->symbol[0]) {
    case '@': /* a kind or an instance of it; verbs have too few roots for that */
        return from->pos == CMIF_POS_NOUN;
    case ';': /* a term of that field */
        return pointer->symbol[1] == 'c';
    case '\\': /* financial */
        return true;
    case '+': /* religious, to pray */
        return from->pos != CMIF_POS_NOUN && to->pos == CMIF_POS_NOUN;
    case '&': /* like its head */
        return from->satellite;
    default:
        return false;
    }
}

static cmif_code find_topics(relation *r, cmif_err *err)
{
    const cmif_wordnet *net = r->net;
    r->topics               = calloc(net->synset_count + 1, sizeof *r->topics);
    if (!r->topics) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for topics");
    }
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        uint32_t id = cmif_wordnet_find(net, CMIF_POS_NOUN, roots[i].offset);
        for (uint32_t j = 0; id != CMIF_MAP_NONE && j < net->synsets[id].word_count; j++) {
            if (cmif_str_is(net->words[net->synsets[id].first_word + j], roots[i].lemma)) {
                r->topics[id] |= roots[i].topic;
            }
        }
    }
    for (bool changed = true; changed;) { /* nouns by hypernyms and fields until nothing is new, the others from them */
        changed = false;
        for (size_t i = 0; i < net->synset_count; i++) {
            const cmif_synset *synset = &net->synsets[i];
            uint16_t           topics = r->topics[i];
            for (uint32_t j = 0; j < synset->pointer_count; j++) {
                const cmif_pointer *pointer = &net->pointers[synset->first_pointer + j];
                if (inherits(synset, pointer, &net->synsets[pointer->synset])) {
                    topics |= r->topics[pointer->synset];
                }
            }
            changed |= topics != r->topics[i];
            r->topics[i] = topics;
        }
    }
    return CMIF_OK;
}

/* A word has a topic when at least a fifth of its uses have it, or its lemma is listed. */
static cmif_code give_topics(relation *r, const cmif_map *ids, const size_t *first_of_word, cmif_err *err)
{
    uint16_t *by_list = calloc(r->lex->count, sizeof *by_list);
    if (!by_list) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for topics");
    }
    for (size_t i = 0; i < sizeof listed / sizeof *listed; i++) {
        for (const char *at = listed[i].lemmas; *at;) {
            size_t   size = strcspn(at, " ");
            uint32_t word = cmif_map_get(ids, (cmif_str){at, size});
            if (word != CMIF_MAP_NONE) {
                by_list[word] |= listed[i].topic;
            }
            at += size + (at[size] == ' ');
        }
    }
    for (uint32_t word = 0; word < r->lex->count; word++) {
        if (r->lex->word_class[word] == CMIF_CLASS_PASS || r->lex->word_class[word] == CMIF_CLASS_NEGATION) {
            continue;
        }
        for (unsigned topic = 1; topic <= CMIF_TOPIC_FAMILY; topic <<= 1) {
            double share = 0;
            for (size_t i = first_of_word[word]; i < first_of_word[word + 1]; i++) {
                share += r->topics[r->entries[i].synset] & topic ? r->entries[i].share : 0;
            }
            r->lex->topics[word] |= (uint16_t) (share >= .2 ? topic : 0);
        }
        r->lex->topics[word] |= by_list[word] | by_list[r->lex->lemma[word]];
    }
    free(by_list);
    return CMIF_OK;
}

/* ---- rude words ---- */

/* "(ethnic slur) offensive term for ...": before the first example. */
static bool defines_rude(cmif_str gloss)
{
    static const char *const kinds[] = {"slur",       "offensive", "obscene",  "disparaging",
                                        "derogatory", "vulgar",    "insulting"};
    static const char *const nouns[] = {")", " term", " name", " word", " slang"};
    for (size_t at = 0; at < gloss.size && gloss.data[at] != '"'; at++) {
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            const size_t kind = strlen(kinds[k]);
            if (gloss.size - at < kind || memcmp(gloss.data + at, kinds[k], kind) != 0) {
                continue;
            }
            for (size_t n = 0; n < sizeof nouns / sizeof *nouns; n++) {
                const size_t noun = strlen(nouns[n]);
                if (gloss.size - at - kind >= noun && memcmp(gloss.data + at + kind, nouns[n], noun) == 0) {
                    return true;
                }
            }
        }
    }
    return false;
}

/* A word of a synset is an ethnic slur, a disparagement or an obscenity by its usage. */
static bool used_rudely(const cmif_wordnet *net, uint32_t id, uint32_t lemma)
{
    static const struct {
        uint32_t    offset;
        const char *lemma;
    } usages[]                = {{6718862, "ethnic_slur"}, {6717170, "disparagement"}, {7124340, "obscenity"}};
    const cmif_synset *synset = &net->synsets[id];
    for (uint32_t i = 0; i < synset->pointer_count; i++) {
        const cmif_pointer *pointer = &net->pointers[synset->first_pointer + i];
        const cmif_synset  *usage   = &net->synsets[pointer->synset];
        for (size_t u = 0; u < sizeof usages / sizeof *usages && memcmp(pointer->symbol, ";u", 2) == 0; u++) {
            if (usage->pos == CMIF_POS_NOUN && usage->offset == usages[u].offset &&
                cmif_str_is(net->words[usage->first_word], usages[u].lemma) &&
                (pointer->from == 0 || cmif_wordnet_lemma(net, id, pointer->from - 1u) == lemma)) {
                return true;
            }
        }
    }
    return false;
}

/* A word is rude when at least a fifth of its uses are, and when its lemma is. */
static void give_rude(relation *r, const size_t *first_of_word)
{
    cmif_lexicon *lex = r->lex;
    for (uint32_t word = 0; word < lex->count; word++) {
        double share = 0;
        for (size_t i = first_of_word[word]; i < first_of_word[word + 1]; i++) {
            const entry *e = &r->entries[i];
            bool rude      = used_rudely(r->net, e->synset, e->lemma) || defines_rude(r->net->synsets[e->synset].gloss);
            share += rude ? e->share : 0;
        }
        lex->rude[word] |= share >= .2 && lex->word_class[word] > CMIF_CLASS_NEGATION;
    }
    for (uint32_t word = 0; word < lex->count; word++) {
        lex->rude[word] |= lex->rude[lex->lemma[word]] && lex->word_class[word] > CMIF_CLASS_NEGATION;
    }
}

/* ---- edges ---- */

static bool add_pair(relation *r, uint32_t a, uint32_t b, double weight)
{
    for (int turn = 0; a != b && turn < 2; turn++) {
        if (!cmif_grow(&r->pairs, &r->pair_capacity, r->pair_count, sizeof *r->pairs)) {
            return false;
        }
        r->pairs[r->pair_count++] = turn ? (pair){b, a, weight} : (pair){a, b, weight};
    }
    return true;
}

static int by_words(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    if (x->a != y->a) {
        return x->a < y->a ? -1 : 1;
    }
    if (x->b != y->b) {
        return x->b < y->b ? -1 : 1;
    }
    return (x->weight > y->weight) - (x->weight < y->weight);
}

/* Sort the pairs, join equal ones by sum (at most 1) or maximum, and take them away as edges. */
static cmif_code take_edges(relation *r, bool sum, cmif_edge **out, size_t *out_count, cmif_err *err)
{
    cmif_edge *edges = calloc(r->pair_count ? r->pair_count : 1, sizeof *edges);
    size_t     count = 0;
    if (!edges) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for pairs of words");
    }
    if (r->pair_count) {
        qsort(r->pairs, r->pair_count, sizeof *r->pairs, by_words);
    }
    for (size_t i = 0; i < r->pair_count;) {
        pair joined = r->pairs[i];
        for (i++; i < r->pair_count && r->pairs[i].a == joined.a && r->pairs[i].b == joined.b; i++) {
            joined.weight = sum ? joined.weight + r->pairs[i].weight : r->pairs[i].weight;
        }
        edges[count++] = (cmif_edge){joined.a, joined.b, (float) (joined.weight < 1 ? joined.weight : 1)};
    }
    r->pair_count = 0;
    *out          = edges;
    *out_count    = count;
    return CMIF_OK;
}

static double least(double a, double b)
{
    return a < b ? a : b;
}

/* Pairs between the words of two synsets in equal inflections, with factor * the smaller share. */
static bool add_between(relation *r, uint32_t a, uint32_t b, double factor)
{
    bool room = true;
    for (size_t i = r->first[a]; i < r->first[a + 1]; i++) {
        for (size_t j = r->first[b]; j < r->first[b + 1]; j++) {
            const entry *x = &r->entries[i], *y = &r->entries[j];
            if (x->inflection == y->inflection) {
                room = room && add_pair(r, x->word, y->word, factor * least(x->share, y->share));
            }
        }
    }
    return room;
}

static cmif_code find_synonyms(relation *r, cmif_err *err)
{
    const cmif_wordnet *net  = r->net;
    bool                room = true;
    for (uint32_t id = 0; id < net->synset_count; id++) {
        for (size_t i = r->first[id]; i < r->first[id + 1]; i++) {
            for (size_t j = i + 1; j < r->first[id + 1] && r->entries[j].inflection == r->entries[i].inflection; j++) {
                const entry *x = &r->entries[i], *y = &r->entries[j];
                room =
                    room && add_pair(r, x->word, y->word, (x->lemma == y->lemma ? .3 : 1) * least(x->share, y->share));
            }
        }
        const cmif_synset *synset = &net->synsets[id];
        for (uint32_t i = 0; i < synset->pointer_count; i++) {
            const cmif_pointer *pointer = &net->pointers[synset->first_pointer + i];
            if (pointer->symbol[0] == '@' && pointer->symbol[1] == 0) {
                room = room && add_between(r, id, pointer->synset, .3);
            } else if (pointer->symbol[0] == '&' && id < pointer->synset) { /* both ends point */
                room = room && add_between(r, id, pointer->synset, .5);
            }
        }
    }
    return room ? take_edges(r, true, &r->lex->synonyms, &r->lex->synonym_count, err)
                : cmif_fail(err, CMIF_E_MEMORY, "no memory for synonyms");
}

static bool add_opposites(relation *r, uint32_t a, uint32_t b, const cmif_pointer *pointer)
{
    uint32_t from = pointer->from ? cmif_wordnet_lemma(r->net, a, pointer->from - 1u) : CMIF_MAP_NONE;
    uint32_t to   = pointer->to ? cmif_wordnet_lemma(r->net, b, pointer->to - 1u) : CMIF_MAP_NONE;
    bool     room = true;
    for (size_t i = r->first[a]; i < r->first[a + 1]; i++) {
        for (size_t j = r->first[b]; j < r->first[b + 1]; j++) {
            const entry *x = &r->entries[i], *y = &r->entries[j];
            if (x->inflection == y->inflection && (!pointer->from || x->lemma == from) &&
                (!pointer->to || y->lemma == to)) {
                room = room && add_pair(r, x->word, y->word, 1);
            }
        }
    }
    return room;
}

/* Next synset of a head's cluster: the head itself, then what is similar to it. at: 0 at first. */
static bool next_of_cluster(const cmif_wordnet *net, uint32_t head, uint32_t *at, uint32_t *member)
{
    const cmif_synset *synset = &net->synsets[head];
    *member                   = head;
    if (*at == 0) {
        *at = 1;
        return true;
    }
    for (; *at <= synset->pointer_count; ++*at) {
        const cmif_pointer *pointer = &net->pointers[synset->first_pointer + *at - 1];
        if (pointer->symbol[0] == '&') {
            *member = pointer->synset;
            ++*at;
            return true;
        }
    }
    return false;
}

static bool add_clusters(relation *r, uint32_t a, uint32_t b)
{
    bool     room = true;
    uint32_t at_a = 0, at_b, x, y;
    while (next_of_cluster(r->net, a, &at_a, &x)) {
        at_b = 0;
        while (next_of_cluster(r->net, b, &at_b, &y)) {
            for (size_t i = r->first[x]; i < r->first[x + 1]; i++) {
                for (size_t j = r->first[y]; j < r->first[y + 1]; j++) {
                    const entry *p = &r->entries[i], *q = &r->entries[j];
                    if (p->inflection == q->inflection && p->share > .25 && q->share > .25) {
                        room = room && add_pair(r, p->word, q->word, .5);
                    }
                }
            }
        }
    }
    return room;
}

static cmif_code find_antonyms(relation *r, cmif_err *err)
{
    const cmif_wordnet *net  = r->net;
    bool                room = true;
    for (uint32_t id = 0; id < net->synset_count; id++) {
        const cmif_synset *synset = &net->synsets[id];
        for (uint32_t i = 0; i < synset->pointer_count; i++) {
            const cmif_pointer *pointer = &net->pointers[synset->first_pointer + i];
            if (pointer->symbol[0] == '!') {
                room = room && add_opposites(r, id, pointer->synset, pointer);
                if (synset->pos == CMIF_POS_ADJECTIVE && id < pointer->synset) {
                    room = room && add_clusters(r, id, pointer->synset);
                }
            }
        }
    }
    return room ? take_edges(r, false, &r->lex->antonyms, &r->lex->antonym_count, err)
                : cmif_fail(err, CMIF_E_MEMORY, "no memory for antonyms");
}

cmif_code cmif_draft_relate(cmif_lexicon *draft, const cmif_wordnet *wordnet, cmif_err *err)
{
    cmif_code rc            = CMIF_OK;
    relation  r             = {.lex = draft, .net = wordnet};
    cmif_map  ids           = {0};
    size_t   *first_of_word = calloc((size_t) draft->count + 1, sizeof *first_of_word);

    r.first = calloc(wordnet->synset_count + 1, sizeof *r.first);
    if (!first_of_word || !r.first) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the senses of words");
        goto done;
    }
    for (uint32_t word = 1; word < draft->count; word++) {
        if (cmif_map_put(&ids, draft->words[word], word) == CMIF_MAP_NONE) {
            rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for words");
            goto done;
        }
    }
    for (uint32_t word = 0; word < draft->count && rc == CMIF_OK; word++) {
        rc                      = add_entries(&r, &ids, word, err);
        first_of_word[word + 1] = r.count;
    }
    if (rc == CMIF_OK) {
        rc = find_topics(&r, err);
    }
    if (rc == CMIF_OK) {
        rc = give_topics(&r, &ids, first_of_word, err);
    }
    if (rc == CMIF_OK) {
        give_rude(&r, first_of_word);
        rc = add_glosses(&r, first_of_word, err);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    if (r.count) {
        qsort(r.entries, r.count, sizeof *r.entries, by_synset);
    }
    for (size_t i = 0; i < r.count; i++) {
        r.first[r.entries[i].synset + 1]++;
    }
    for (size_t i = 0; i < wordnet->synset_count; i++) {
        r.first[i + 1] += r.first[i];
    }
    rc = find_synonyms(&r, err);
    if (rc == CMIF_OK) {
        rc = find_antonyms(&r, err);
    }
done:
    free(first_of_word);
    free(r.entries);
    free(r.first);
    free(r.topics);
    free(r.pairs);
    cmif_map_free(&ids);
    return rc;
}
