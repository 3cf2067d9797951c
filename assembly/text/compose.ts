// Two code points -> the one that Unicode has for both: a letter and its mark, a kana and its
// voicing mark, the jamo of a Korean syllable. Called by clean.ts, so that a text reads the same
// whichever way a keyboard or file system has written it. As NFC composes two code points that
// it would leave alone by themselves; none beyond U+FFFF.

/** A row a mark, rising: the mark, then letters, rising, each with what mark and letter become. From Unicode 15.1. */
const COMPOSITES: StaticArray<string> = [
  "\u0300AÀEÈIÌNǸOÒUÙWẀYỲaàeèiìnǹoòuùwẁyỳ¨῭ÂẦÊỀÔỒÜǛâầêềôồüǜĂẰăằĒḔēḕŌṐōṑƠỜơờƯỪưừΑᾺΕῈΗῊΙῚΟῸΥῪΩῺαὰεὲηὴιὶοὸυὺωὼϊῒϋῢЕЀИЍеѐиѝἀἂἁἃἈἊἉἋἐἒἑἓἘἚἙἛἠἢἡἣἨἪἩἫἰἲἱἳἸἺἹἻὀὂὁὃὈὊὉὋὐὒὑὓὙὛὠὢὡὣὨὪὩὫᾀᾂᾁᾃᾈᾊᾉᾋᾐᾒᾑᾓᾘᾚᾙᾛᾠᾢᾡᾣᾨᾪᾩᾫᾳᾲ᾿῍ῃῂῳῲ῾῝",
  "\u0301AÁCĆEÉGǴIÍKḰLĹMḾNŃOÓPṔRŔSŚUÚWẂYÝZŹaácćeégǵiíkḱlĺmḿnńoópṕrŕsśuúwẃyýzź¨΅ÂẤÅǺÆǼÇḈÊẾÏḮÔỐÕṌØǾÜǗâấåǻæǽçḉêếïḯôốõṍøǿüǘĂẮăắĒḖēḗŌṒōṓŨṸũṹƠỚơớƯỨưứΑΆΕΈΗΉΙΊΟΌΥΎΩΏαάεέηήιίοόυύωώϊΐϋΰϒϓГЃКЌгѓкќἀἄἁἅἈἌἉἍἐἔἑἕἘἜἙἝἠἤἡἥἨἬἩἭἰἴἱἵἸἼἹἽὀὄὁὅὈὌὉὍὐὔὑὕὙὝὠὤὡὥὨὬὩὭᾀᾄᾁᾅᾈᾌᾉᾍᾐᾔᾑᾕᾘᾜᾙᾝᾠᾤᾡᾥᾨᾬᾩᾭᾳᾴ᾿῎ῃῄῳῴ῾῞",
  "\u0302AÂCĈEÊGĜHĤIÎJĴOÔSŜUÛWŴYŶZẐaâcĉeêgĝhĥiîjĵoôsŝuûwŵyŷzẑẠẬạậẸỆẹệỌỘọộ",
  "\u0303AÃEẼIĨNÑOÕUŨVṼYỸaãeẽiĩnñoõuũvṽyỹÂẪÊỄÔỖâẫêễôỗĂẴăẵƠỠơỡƯỮưữ",
  "\u0304AĀEĒGḠIĪOŌUŪYȲaāeēgḡiīoōuūyȳÄǞÆǢÕȬÖȪÜǕäǟæǣõȭöȫüǖǪǬǫǭȦǠȧǡȮȰȯȱΑᾹΙῙΥῩαᾱιῑυῡИӢУӮиӣуӯḶḸḷḹṚṜṛṝ",
  "\u0306AĂEĔGĞIĬOŎUŬaăeĕgğiĭoŏuŭȨḜȩḝΑᾸΙῘΥῨαᾰιῐυῠАӐЕӖЖӁИЙУЎаӑеӗжӂийуўẠẶạặ",
  "\u0307AȦBḂCĊDḊEĖFḞGĠHḢIİMṀNṄOȮPṖRṘSṠTṪWẆXẊYẎZŻaȧbḃcċdḋeėfḟgġhḣmṁnṅoȯpṗrṙsṡtṫwẇxẋyẏzżŚṤśṥŠṦšṧſẛṢṨṣṩ",
  "\u0308AÄEËHḦIÏOÖUÜWẄXẌYŸaäeëhḧiïoötẗuüwẅxẍyÿÕṎõṏŪṺūṻΙΪΥΫιϊυϋϒϔІЇАӒЕЁЖӜЗӞИӤОӦУӰЧӴЫӸЭӬаӓеёжӝзӟиӥоӧуӱчӵыӹэӭіїӘӚәӛӨӪөӫ",
  "\u0309AẢEẺIỈOỎUỦYỶaảeẻiỉoỏuủyỷÂẨÊỂÔỔâẩêểôổĂẲăẳƠỞơởƯỬưử",
  "\u030aAÅUŮaåuůwẘyẙ",
  "\u030bOŐUŰoőuűУӲуӳ",
  "\u030cAǍCČDĎEĚGǦHȞIǏKǨLĽNŇOǑRŘSŠTŤUǓZŽaǎcčdďeěgǧhȟiǐjǰkǩlľnňoǒrřsštťuǔzžÜǙüǚƷǮ\u0292ǯ",
  "\u030fAȀEȄIȈOȌRȐUȔaȁeȅiȉoȍrȑuȕѴѶѵѷ",
  "\u0311AȂEȆIȊOȎRȒUȖaȃeȇiȋoȏrȓuȗ",
  "\u0313ΑἈΕἘΗἨΙἸΟὈΩὨαἀεἐηἠιἰοὀρῤυὐωὠᾳᾀᾼᾈῃᾐῌᾘῳᾠῼᾨ",
  "\u0314ΑἉΕἙΗἩΙἹΟὉΡῬΥὙΩὩαἁεἑηἡιἱοὁρῥυὑωὡᾳᾁᾼᾉῃᾑῌᾙῳᾡῼᾩ",
  "\u031bOƠUƯoơuưÒỜÓỚÕỠÙỪÚỨòờóớõỡùừúứŨỮũữỌỢọợỎỞỏởỤỰụựỦỬủử",
  "\u0323AẠBḄDḌEẸHḤIỊKḲLḶMṂNṆOỌRṚSṢTṬUỤVṾWẈYỴZẒaạbḅdḍeẹhḥiịkḳlḷmṃnṇoọrṛsṣtṭuụvṿwẉyỵzẓÂẬÊỆÔỘâậêệôộĂẶăặƠỢơợƯỰưựṠṨṡṩ",
  "\u0324UṲuṳ",
  "\u0325AḀaḁ",
  "\u0326SȘTȚsștț",
  "\u0327CÇDḐEȨGĢHḨKĶLĻNŅRŖSŞTŢcçdḑeȩgģhḩkķlļnņrŗsştţĆḈćḉĔḜĕḝ",
  "\u0328AĄEĘIĮOǪUŲaąeęiįoǫuųŌǬōǭ",
  "\u032dDḒEḘLḼNṊTṰUṶdḓeḙlḽnṋtṱuṷ",
  "\u032eHḪhḫ",
  "\u0330EḚIḬUṴeḛiḭuṵ",
  "\u0331BḆDḎKḴLḺNṈRṞTṮZẔbḇdḏhẖkḵlḻnṉrṟtṯzẕ",
  "\u0338<≮=≠>≯←↚→↛↔↮⇐⇍⇒⇏⇔⇎∃∄∈∉∋∌∣∤∥∦∼≁≃≄≅≇≈≉≍≭≡≢≤≰≥≱≲≴≳≵≶≸≷≹≺⊀≻⊁≼⋠≽⋡⊂⊄⊃⊅⊆⊈⊇⊉⊑⋢⊒⋣⊢⊬⊨⊭⊩⊮⊫⊯⊲⋪⊳⋫⊴⋬⊵⋭",
  "\u0342¨῁αᾶηῆιῖυῦωῶϊῗϋῧἀἆἁἇἈἎἉἏἠἦἡἧἨἮἩἯἰἶἱἷἸἾἹἿὐὖὑὗὙὟὠὦὡὧὨὮὩὯᾀᾆᾁᾇᾈᾎᾉᾏᾐᾖᾑᾗᾘᾞᾙᾟᾠᾦᾡᾧᾨᾮᾩᾯᾳᾷ᾿῏ῃῇῳῷ῾῟",
  "\u0345ΑᾼΗῌΩῼάᾴήῄαᾳηῃωῳώῴἀᾀἁᾁἂᾂἃᾃἄᾄἅᾅἆᾆἇᾇἈᾈἉᾉἊᾊἋᾋἌᾌἍᾍἎᾎἏᾏἠᾐἡᾑἢᾒἣᾓἤᾔἥᾕἦᾖἧᾗἨᾘἩᾙἪᾚἫᾛἬᾜἭᾝἮᾞἯᾟὠᾠὡᾡὢᾢὣᾣὤᾤὥᾥὦᾦὧᾧὨᾨὩᾩὪᾪὫᾫὬᾬὭᾭὮᾮὯᾯὰᾲὴῂὼῲᾶᾷῆῇῶῷ",
  "\u0653\u0627\u0622",
  "\u0654\u0627\u0623\u0648\u0624\u064a\u0626\u06c1\u06c2\u06d2\u06d3\u06d5\u06c0",
  "\u0655\u0627\u0625",
  "\u093c\u0928\u0929\u0930\u0931\u0933\u0934",
  "\u09be\u09c7\u09cb",
  "\u09d7\u09c7\u09cc",
  "\u0b3e\u0b47\u0b4b",
  "\u0b56\u0b47\u0b48",
  "\u0b57\u0b47\u0b4c",
  "\u0bbe\u0bc6\u0bca\u0bc7\u0bcb",
  "\u0bd7\u0b92\u0b94\u0bc6\u0bcc",
  "\u0c56\u0c46\u0c48",
  "\u0cc2\u0cc6\u0cca",
  "\u0cd5\u0cbf\u0cc0\u0cc6\u0cc7\u0cca\u0ccb",
  "\u0cd6\u0cc6\u0cc8",
  "\u0d3e\u0d46\u0d4a\u0d47\u0d4b",
  "\u0d57\u0d46\u0d4c",
  "\u0dca\u0dd9\u0dda\u0ddc\u0ddd",
  "\u0dcf\u0dd9\u0ddc",
  "\u0ddf\u0dd9\u0dde",
  "\u102e\u1025\u1026",
  "\u1b35\u1b05\u1b06\u1b07\u1b08\u1b09\u1b0a\u1b0b\u1b0c\u1b0d\u1b0e\u1b11\u1b12\u1b3a\u1b3b\u1b3c\u1b3d\u1b3e\u1b40\u1b3f\u1b41\u1b42\u1b43",
  "\u3099うゔかがきぎくぐけげこごさざしじすずせぜそぞただちぢつづてでとどはばひびふぶへべほぼゝゞウヴカガキギクグケゲコゴサザシジスズセゼソゾタダチヂツヅテデトドハバヒビフブヘベホボワヷヰヸヱヹヲヺヽヾ",
  "\u309aはぱひぴふぷへぺほぽハパヒピフプヘペホポ",
];

const FIRST_LEAD: u32 = 0x1100;
const LEADS: u32 = 19;
const FIRST_VOWEL: u32 = 0x1161;
const VOWELS: u32 = 21;
/** Tails count from 1, since a syllable may have none. */
const BEFORE_TAILS: u32 = 0x11a7;
const TAILS: u32 = 28;
const FIRST_SYLLABLE: u32 = 0xac00;

/** The code point for both; 0 = there is none. */
export function composed(first: u32, second: u32): u32 {
  if (second - FIRST_VOWEL < VOWELS) {
    return first - FIRST_LEAD < LEADS
      ? FIRST_SYLLABLE + ((first - FIRST_LEAD) * VOWELS + second - FIRST_VOWEL) * TAILS
      : 0;
  }
  if (second - BEFORE_TAILS - 1 < TAILS - 1) {
    const syllable = first - FIRST_SYLLABLE;
    return syllable < LEADS * VOWELS * TAILS && syllable % TAILS == 0 ? first + second - BEFORE_TAILS : 0;
  }
  let low: u32 = 0;
  let high: u32 = COMPOSITES.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (unit(unchecked(COMPOSITES[middle]), 0) < second) low = middle + 1;
    else high = middle;
  }
  if (low == <u32>COMPOSITES.length) return 0;
  const row = unchecked(COMPOSITES[low]);
  if (unit(row, 0) != second) return 0;
  const pairs = (<u32>row.length) >>> 1;
  low = 0;
  high = pairs;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (unit(row, 1 + 2 * middle) < first) low = middle + 1;
    else high = middle;
  }
  return low < pairs && unit(row, 1 + 2 * low) == first ? unit(row, 2 + 2 * low) : 0;
}

/** A literal's UTF-16 unit; reading it allocates nothing. */
// @ts-ignore: decorator
@inline
export function unit(text: string, index: u32): u32 {
  return load<u16>(changetype<usize>(text) + ((<usize>index) << 1));
}
