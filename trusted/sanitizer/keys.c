#include "sanitizer/keys.h"

/* words in lines */
const char cmif_key_months[] = " january february march april may june july august september october november december "
                               "jan feb mar apr jun jul aug sep sept oct "
                               "nov dec januar februar märz mai juni juli oktober dezember mrz okt dez jänner janvier "
                               "février mars avril juin juillet août septembre "
                               "octobre novembre décembre enero febrero marzo abril mayo junio julio agosto septiembre "
                               "setiembre octubre noviembre diciembre "
                               "gennaio febbraio aprile maggio giugno luglio settembre ottobre dicembre janeiro "
                               "fevereiro março maio junho julho setembro outubro "
                               "novembro dezembro januari februari maart mei augustus stycznia lutego marca kwietnia "
                               "maja czerwca lipca sierpnia września "
                               "października listopada grudnia ";
const char cmif_key_seasons[] = " spring summer autumn fall winter ";
const char cmif_key_weekdays[] =
    " monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur "
    "thurs fri sat sun montag dienstag mittwoch "
    "donnerstag freitag samstag sonntag lundi mardi mercredi jeudi vendredi samedi dimanche "
    "lunes martes miércoles jueves viernes "
    "sábado domingo ";
const char cmif_key_currencies[] =
    " usd eur gbp chf jpy cny inr aud cad nzd sgd hkd sek nok dkk pln czk huf ron try rub uah brl mxn ars clp cop zar "
    "ngn kes ghs egp "
    "mad ils aed sar qar thb myr idr php vnd krw twd rs rm kr zł ft lei dollar dollars euro euros pound pounds "
    "sterling quid buck bucks "
    "pence cents cent yen yuan rupees rupee francs franc pesos peso kroner kronor krona krone rand naira shillings "
    "ruble rubles rubel "
    "zloty zlotys lira reais real dinar dirham dirhams baht won forint btc eth bitcoin bitcoins ";

const cmif_key cmif_keys[] = {
    {KEY_TITLE,
     "mr mrs ms mx miss dr prof professor doctor sir madam lady lord herr frau herrn mme mlle madame monsieur señor "
     "señora sr sra don doña signor signora sig pan pani dhr mevr maître maitre dottore dott rabbi imam officer "
     "detective sgt pc dc constable hon rev reverend fr capt lt col messrs mstr"},
    {KEY_KIN,
     "father mother sister brother uncle aunt auntie aunty cousin nurse judge captain sergeant colonel general major "
     "chef coach pastor bishop president senator governor mayor king queen prince princess saint friar grandma "
     "grandpa granny grandad inspector chief lieutenant principal counsellor attorney justice minister ambassador "
     "agent"},
    {KEY_PARTICLE,
     "de la del der den van von di da du las los el al bin ibn ben abu dos das do ter ten zu zur af av y e st o mac "
     "le lo"},
    {KEY_SUFFIX,
     "inc ltd llc gmbh ag plc corp co llp lp sa sarl sas bv nv oy oyj ab as aps kg ohg spa srl pty pte pvt limited "
     "incorporated corporation kft zrt sro doo ooo"},
    {KEY_ORG,
     "university college school hospital clinic bank insurance institute foundation church council ministry "
     "department association society union trust group holdings partners solutions systems technologies technology "
     "labs laboratories laboratory analytics robotics logistics shipping bakery hotel restaurant pharmacy police "
     "court museum airport airlines airways motors media foods farms imports exports market markets centre center "
     "services service agency authority bureau commission committee club federation academy seminary cathedral "
     "temple mosque synagogue parish charity sons brothers bros company industries international mutual collections "
     "sheriff protection ombudsman institution consulting consultants associates ventures capital securities "
     "investments financial finance credit energy power electric pharma pharmaceuticals biosciences therapeutics "
     "diagnostics medical health healthcare dental care realty properties estate estates construction builders "
     "engineering software digital networks telecom communications studios studio productions pictures records press "
     "publishing books news times post gazette tribune herald journal magazine radio television broadcasting theatre "
     "theater orchestra choir library archive archives gallery party senate parliament congress embassy consulate "
     "army navy airforce guard corps league team united rovers football cricket tennis golf fund works mills brewery "
     "winery distillery cafe café coffee kitchen grill bar pub inn lodge resort spa salon store stores shop outlet "
     "depot supply supplies wholesale retail trading traders transport freight haulage express courier cargo "
     "aviation aerospace marine automotive auto garage tyres cars fitness gym yoga nursery kindergarten elementary "
     "primary secondary high grammar polytechnic faculty observatory zoo aquarium stadium arena cross crescent "
     "revenue customs treasury exchange chamber lions rotary initiative project programme program network alliance "
     "coalition cooperative coop collective society's universität hochschule krankenhaus klinik verein verlag "
     "sparkasse universidad hôpital université collège lycée école escuela colegio instituto fundación banco caja "
     "seguros banque société groupe assurance assurances compagnie università scuola ospedale ristorante osteria "
     "trattoria banca universidade universitet universiteit ziekenhuis szpital uniwersytet kreisverwaltung "
     "stadtverwaltung finanzamt amtsgericht tekstil möbel clinica clínica farmacia pharmacie apotheke praxis kanzlei"},
    {KEY_STREET,
     "street road avenue lane boulevard terrace crescent parkway highway mews alley driveway expressway turnpike rd "
     "ave blvd ln hwy pkwy st str cres quay wharf"},
    {KEY_STREET_SOFT,
     "drive court square way place close gardens hill row walk park grove green view rise gate circle loop trail "
     "path bridge yard plaza heights dr ct sq pl cir estate passage ridge meadow meadows bend crossing embankment "
     "parade"},
    {KEY_STREET_FIRST,
     "rue avenue boulevard chemin impasse allée allee quai place via viale piazza corso vicolo calle avenida plaza "
     "paseo camino carrer rua travessa ulica ul aleja al ulitsa prospekt"},
    {KEY_UNIT, "flat apt apartment unit suite ste room floor box building block lot level cottage"},
    {KEY_GEO,
     "county river valley island islands beach bay falls springs heights hills creek province district prefecture "
     "region peninsula desert mountains mountain canyon forest park harbor harbour city town township village "
     "borough parish shire coast lake sea ocean gulf strait glacier highlands plains states"},
    {KEY_GEO_FIRST,
     "lake mount mt cape fort ft port saint st san santa são sao bad las los el la new north south east west upper "
     "lower great little old isle"},
    {KEY_ROLE,
     "engineer manager director counsel officer analyst lead head senior junior assistant president vice chief "
     "executive operations sales marketing legal general human resources product project account accounts customer "
     "support team subject date name address phone email tel telephone fax mobile web website city country state "
     "department birthday salary birth born nationality languages language experience education summary references "
     "skills interests work school profile employment contract agreement lease notice invoice order ticket case "
     "reference re from to cc attn attention dear regards sincerely faithfully thanks thank kind best warm yours "
     "history examination labs plan assessment diagnosis medications allergies patient seen signed witness landlord "
     "tenant employee employer seller buyer borrower lender recipient party parties client company section article "
     "clause schedule appendix chapter figure table note step part page total amount due price quantity description "
     "item status priority type model serial device version error warning info debug traceback file line user users "
     "system admin question answer yes no please hello hi good morning afternoon evening guten tag buenos días "
     "bonjour gracias merci mother father mum mom dad grandmother grandfather uncle aunt sister brother curriculum "
     "vitae data security number social tax passport license licence insurance policy claim member medicaid medicare "
     "server database token password key username login api url i the a an this that these those my your his her our "
     "their it we they you he she in on at for and or but if when while after before since because with without of "
     "by as so not all any some each every most many much one two three four five six seven eight nine ten first "
     "second third new old next last current previous present today tomorrow yesterday here there now then also very "
     "more less may will can could should would must shall might is are was were be been has have had do does did"},
    {KEY_DETERMINER,
     "the a an this that these those such any each every no another some my your his her our their its said either "
     "both which whose other"},
    {KEY_IN,
     "in from near to at via around outside inside across through towards toward into leaving visit visited visiting "
     "lives living moved born town city of over between throughout within"},
    {KEY_OF, "of for the de di del della du des der den für and y et und e"},
    {KEY_PHONE,
     "phone telephone tel mobile cell fax whatsapp call calls called text dial ring hotline ext extension telefon "
     "teléfono telefono téléphone portable handy sms pager"},
    {KEY_ACCOUNT,
     "account acct konto compte cuenta conto routing sort policy invoice bic swift aba iban wallet bsb ending ends "
     "loan mortgage contract subscriber"},
    {KEY_ID,
     "passport ssn social security license licence id mrn dni nie nif nino tax plate registration reg vin serial "
     "case file ticket reference ref tracking claim member patient aadhaar pan pesel steuer steuernummer "
     "identification identity card nhs medicaid medicare insurance order customer employee student badge permit visa "
     "booking confirmation sid uid uuid imei isbn ein vat nric codice fiscale siren siret cpf rut curp inn "
     "personalausweis dob docket inmate warrant po"},
    {KEY_SECRET,
     "password pwd passwd passphrase passcode secret token apikey key credential credentials pin pass kennwort "
     "passwort contraseña mot pw secretkey bearer otp"},
    {KEY_POSTCODE, "zip zipcode postcode postal plz cp cap"},
    {KEY_CARD, "visa mastercard amex"},
    {KEY_FILLER,
     "number numbers no nr num nummer número numero code is was are of the my his her your our new old ist es lautet "
     "in ends ending with digits and on to at me us him them under"},
    {KEY_MEASURE,
     "age aged turned mg kg g km cm mm ml mcg lb lbs pounds oz stone feet ft inches mph kmh years year yr yrs old "
     "ward room bpm mmhg mmol iu units dose grade level degree degrees mbit gb mb tb kcal calories weighs weighed "
     "pulse bp temperature score version born salary figures"},
    {KEY_NAME_IS,
     "name named called names heiße heiss appelle llamo soy chiamo regards sincerely love cheers wishes faithfully "
     "signed from dear hi hello hey"},
    {KEY_STATE,
     "al ak az ar ca co ct de fl ga hi id il in ia ks ky la me md ma mi mn ms mo mt ne nv nh nj nm ny nc nd oh ok or "
     "pa ri sc sd tn tx ut vt va wa wv wi wy dc on qc bc ab mb sk ns nb nl nsw vic qld act nt uk us usa uae eu gb"},
    {KEY_COMPANY, "inc ltd llc gmbh plc llp corp pvt pty incorporated oyj kft sarl ohg"},
    {KEY_NUMERAL,
     "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
     "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million "
     "billion hundreds thousands millions dozen lakh crore"},
    {KEY_DATE, cmif_key_months},
    {KEY_DATE, cmif_key_seasons},
    {KEY_DATE, cmif_key_weekdays},
    {KEY_CURRENCY, cmif_key_currencies},
};

const unsigned cmif_keys_count = sizeof cmif_keys / sizeof *cmif_keys;
