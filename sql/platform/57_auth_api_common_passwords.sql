-- The login API on a plain Postgres: the offline list of what a guesser tries first. Written for this project and under its licence; no list of
-- leaked passwords was copied. Words of English and Dutch, names, teams, brands and rows of keys; what people put around a word is taken off
-- before it is looked up (auth_api.is_common_password), so one word stands for thousands of passwords. An operator can add words.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

insert into auth_api.common_passwords (word)
select word
from string_to_table(regexp_replace(btrim($words$
password passwort wachtwoord parool passphrase passcode pass passw secret geheim geheimpje login logon signin inloggen admin administrator administrateur
beheerder root toor super superuser superman superstar user users gebruiker guest gast test tester testing toets demo default standaard changeme change
verander wijzig temp temporary tijdelijk welcome welkom bienvenue hello hallo hoi dag hola ciao goodbye doei hey heythere access toegang letmein openup
opensesame sesame iloveyou iloveu ilovegod iloveme loveyou loveme lovely love lover liefde liefje schat schatje honey sweetheart sweety sweetie darling
angel angels engel babygirl babyboy baby babe princess prinses prins prince queen king koning koningin master meester boss baas chief ninja warrior
qwerty qwertyui qwertyuiop qwertz qwertzui azerty azertyuiop asdf asdfg asdfgh asdfghj asdfghjk asdfghjkl zxcv zxcvb zxcvbn zxcvbnm qazwsx qazwsxedc
qweasd qweasdzxc wsxedc edcrfv rfvtgb poiuy poiuytrewq lkjhgf lkjhgfdsa mnbvcxz mnbvcx yxcvbnm wasd wasdwasd qwer qwert asdasd qweqwe zaqwsx zaqxsw
abc abcd abcde abcdef abcdefg abcdefgh abcabc aaa aaaa xxx xxxx xyz xyzzy foobar foo bar foofoo blah blahblah lorem ipsum
dragon draak monkey aap aapje tiger tijger lion leeuw bear beer wolf wolves eagle adelaar falcon valk hawk shark haai dolphin dolfijn horse paard pony
donkey ezel cow koe pig varken rabbit konijn bunny chicken kip duck eend goose penguin pinguin panda koala kitten kitty poes poesje cat kat cats puppy dog hond
hondje doggy dogs mouse muis hamster snake slang spider spin butterfly vlinder bee ladybug turtle schildpad fish vis whale walvis elephant olifant giraffe
football voetbal soccer baseball honkbal basketball hockey tennis golf golfer rugby cricket boxing judo karate volleyball handbal korfbal schaatsen wielrennen
skiing snowboard surfing surfer skater skateboard runner running swimmer swimming zwemmen fitness gym yoga champion kampioen winner winnaar player speler gamer games
ajax feyenoord psv azalkmaar twente groningen heerenveen vitesse barcelona realmadrid juventus milan inter bayern dortmund schalke arsenal chelsea liverpool
manchester manutd everton tottenham celtic rangers benfica porto lakers bulls celtics yankees redsox cowboys steelers packers eagles patriots raiders
summer zomer winter spring lente autumn herfst season seizoen sunshine zonneschijn sunny sunday zondag monday maandag tuesday dinsdag wednesday woensdag thursday
donderdag friday vrijdag saturday zaterdag january januari february februari march maart april may mei june juni july juli august augustus september october
oktober november december christmas kerst kerstmis easter pasen halloween sinterklaas birthday verjaardag vakantie holiday weekend today vandaag tomorrow morgen
flower flowers bloem bloemen rose roses roos tulip tulp lily daisy madelief orchid sunflower zonnebloem garden tuin forest bos tree boom mountain berg river
rivier ocean oceaan sea zee beach strand island eiland sky hemel cloud wolk rain regen rainbow regenboog snow sneeuw storm thunder donder lightning bliksem
fire vuur water ijs ice wind earth aarde world wereld moon maan star stars ster sterren sun zon galaxy universe heelal planet planeet space
red rood blue blauw green groen yellow geel orange oranje purple paars pink roze black zwart white wit silver zilver gold goud golden brown bruin grey grijs
apple appel banana banaan cherry kers strawberry aardbei lemon citroen melon meloen peach perzik mango kiwi pineapple ananas coconut kokosnoot grape druif
coffee koffie tea thee milk melk bier wine wijn whisky whiskey vodka rum tequila cola pepsi cookie koekje cookies chocolate chocolade chocola candy snoep
sugar suiker cake taart pizza burger hamburger friet patat cheese kaas butter boter bread brood pancake pannenkoek stroopwafel drop pepper peper ginger
michael mike jennifer jessica ashley daniel david andrew andrea joshua matthew james robert john johnny thomas tom william charles charlie george jordan
michelle nicole samantha amanda sarah melissa elizabeth stephanie heather rachel rebecca laura anna emma olivia sophie sophia isabella mia chloe hannah
alexander alexandra alex anthony christopher chris christian kevin brian steven stephen jason justin brandon nicholas nathan patrick peter paul mark max
maria martin marcus oscar oliver harry jack jake joseph joe sam samuel simon victor vincent zachary tyler taylor morgan madison kimberly amber crystal
jan piet klaas henk kees willem hendrik johan maarten sander bas bart jeroen marco mark rick rik tim tom luuk daan sem finn bram lars thijs ruben jesse
anouk lotte lisa fleur femke sanne iris eva julia tess lieke maud roos noa sara marieke annemarie ingrid monique wilma petra linda esther mandy kim
computer laptop internet network netwerk website server database wifi wireless router samsung nokia iphone apple google android windows microsoft linux ubuntu
macintosh facebook instagram twitter youtube netflix spotify amazon ebay paypal yahoo hotmail gmail outlook linkedin whatsapp snapchat tiktok minecraft fortnite
pokemon pikachu mario luigi zelda sonic starwars startrek skywalker yoda vader batman spiderman ironman hulk thor captain joker matrix hobbit gandalf frodo
harrypotter hogwarts potter hermione voldemort simpson homer bart mickey minnie donald goofy snoopy garfield nemo shrek bambi simba barbie hellokitty
metallica nirvana slipknot greenday eminem tupac beatles queen rihanna madonna elvis guitar gitaar piano drums drummer music muziek dance dancer rockstar rock
mustang ferrari porsche mercedes bmw audi toyota honda yamaha suzuki ducati harley harleydavidson volkswagen volvo opel renault peugeot ford chevrolet camaro
corvette jeep lamborghini maserati motor auto fiets tractor trekker truck trein train airplane vliegtuig boat boot
amsterdam rotterdam denhaag utrecht eindhoven tilburg breda nijmegen arnhem haarlem leiden maastricht delft friesland zeeland brabant limburg holland nederland
netherlands belgium belgie brussel antwerpen germany berlin london paris parijs france spain italy rome america canada brazil mexico china japan india
freedom vrijheid forever altijd together samen family familie mother moeder mama mommy mom father vader papa daddy dad brother broer sister zus zusje friend
friends vriend vrienden bestfriend girlfriend boyfriend husband wife school student teacher leraar college university doctor dokter nurse police politie
happy blij smile lach lachen funny grappig lucky geluk magic magie mystery destiny fantasy dream droom dreams dreamer heaven paradise paradijs jesus jezus
christ god bible bijbel faith geloof hope hoop blessed grace peace vrede trust trustno trustnoone believe power kracht money geld cash dollar euro rich rijk
diamond diamant jewel treasure schat pirate piraat hunter jager soldier soldaat sniper killer assassin shadow schaduw phantom ghost spook vampire zombie
devil duivel demon satan monster beast matrix phoenix viper cobra python panther scorpion stallion maverick rebel outlaw cowboy trinity
fuckyou fuckme fuckoff asshole bitch bastard shit bullshit sexy sex hottie pussy kut klootzak kanker tering hoer neuken godverdomme verdomme
whatever nothing niks something anything everything nobody niemand someone none nope please alstublieft thankyou bedankt sorry cool awesome amazing great
perfect number nummer one two three een twee drie first last final new nieuw old oud private prive public openbaar security beveiliging secure veilig
company bedrijf office kantoor business work werk manager service support helpdesk account backup system systeem oracle mysql postgres postgresql supabase
kijko sysadmin webmaster operator monitor cisco production productie staging development
$words$, E' \n'), '\s+', ' ', 'g'), ' ') as word
on conflict do nothing;

reset role;
