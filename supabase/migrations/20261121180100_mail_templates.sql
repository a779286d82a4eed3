-- ============================================================================
-- Mail: all mails with their templates, in English and Dutch.
-- ============================================================================

insert into private.mail_kinds (name, required, optional) values
  ('confirmation', '{link, token}', '{token_hash, site_url, redirect_to, email, new_email}'),
  ('recovery', '{link, token}', '{token_hash, site_url, redirect_to, email, new_email}'),
  ('magic_link', '{link, token}', '{token_hash, site_url, redirect_to, email, new_email}'),
  ('invite', '{link}', '{token, token_hash, site_url, redirect_to, email, new_email, organization, inviter}'),
  ('email_change', '{link}', '{token, token_hash, site_url, redirect_to, email, new_email}'),
  ('email_change_new', '{link}', '{token, token_hash, site_url, redirect_to, email, new_email}'),
  ('reauthentication', '{token}', '{token_hash, site_url, redirect_to, email, new_email, link}'),
  ('unlock', '{link}', '{token, token_hash, site_url, redirect_to, email, new_email}'),
  ('invitation', '{link, organization, inviter}', '{token, token_hash, site_url, redirect_to, email, new_email, role}'),
  ('habit_paused', '{link, habit, organization, failures}', '{token, token_hash, site_url, redirect_to, email, new_email}'),
  ('reflex_paused', '{link, reflex, organization, permission}', '{token, token_hash, site_url, redirect_to, email, new_email}'),
  -- items is an array: what is between each_item and end_item repeats for each, with its title and organization.
  ('notification_digest', '{link}', '{count, items, token, token_hash, site_url, redirect_to, email, new_email, each_item, end_item, title, organization}');

insert into private.mail_templates (name, locale, subject, text, html) values
  ('confirmation', 'en', 'Confirm your email address',
$m$Confirm {email} as your email address.

Confirm email address:
{link}

Or enter this code: {token}

The link works once and for a limited time.
If you did not ask for this, ignore this mail: nothing changes.
$m$,
$m$<p>Confirm {email} as your email address.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Confirm email address</a></p>
<p>Or enter this code: <strong>{token}</strong></p>
<p style="color:#71717a;font-size:14px">The link works once and for a limited time. If you did not ask for this, ignore this mail: nothing changes.</p>$m$),
  ('confirmation', 'nl', 'Bevestig je e-mailadres',
$m$Bevestig {email} als je e-mailadres.

E-mailadres bevestigen:
{link}

Of vul deze code in: {token}

De link werkt één keer en is beperkt geldig.
Heb je hier niet om gevraagd? Dan hoef je niets te doen: er verandert niets.
$m$,
$m$<p>Bevestig {email} als je e-mailadres.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">E-mailadres bevestigen</a></p>
<p>Of vul deze code in: <strong>{token}</strong></p>
<p style="color:#71717a;font-size:14px">De link werkt één keer en is beperkt geldig. Heb je hier niet om gevraagd? Dan hoef je niets te doen: er verandert niets.</p>$m$),
  ('recovery', 'en', 'Reset your password',
$m$Somebody asked to reset the password of {email}.

Choose a new password:
{link}

Or enter this code: {token}

The link works once and for a limited time.
If it was not you, ignore this mail: your password stays as it is.
$m$,
$m$<p>Somebody asked to reset the password of {email}.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Choose a new password</a></p>
<p>Or enter this code: <strong>{token}</strong></p>
<p style="color:#71717a;font-size:14px">The link works once and for a limited time. If it was not you, ignore this mail: your password stays as it is.</p>$m$),
  ('recovery', 'nl', 'Stel je wachtwoord opnieuw in',
$m$Iemand heeft gevraagd om het wachtwoord van {email} opnieuw in te stellen.

Nieuw wachtwoord kiezen:
{link}

Of vul deze code in: {token}

De link werkt één keer en is beperkt geldig.
Was jij dit niet? Dan hoef je niets te doen: je wachtwoord blijft hetzelfde.
$m$,
$m$<p>Iemand heeft gevraagd om het wachtwoord van {email} opnieuw in te stellen.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Nieuw wachtwoord kiezen</a></p>
<p>Of vul deze code in: <strong>{token}</strong></p>
<p style="color:#71717a;font-size:14px">De link werkt één keer en is beperkt geldig. Was jij dit niet? Dan hoef je niets te doen: je wachtwoord blijft hetzelfde.</p>$m$),
  ('magic_link', 'en', 'Your link to sign in',
$m$Sign in as {email} with this link.

Sign in:
{link}

Or enter this code: {token}

The link works once and for a limited time.
Never pass the link or the code on: whoever has it can sign in as you.
If you did not ask for this, ignore this mail: nothing changes.
$m$,
$m$<p>Sign in as {email} with this link.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Sign in</a></p>
<p>Or enter this code: <strong>{token}</strong></p>
<p style="color:#71717a;font-size:14px">The link works once and for a limited time. Never pass the link or the code on: whoever has it can sign in as you. If you did not ask for this, ignore this mail: nothing changes.</p>$m$),
  ('magic_link', 'nl', 'Je link om in te loggen',
$m$Log in als {email} met deze link.

Inloggen:
{link}

Of vul deze code in: {token}

De link werkt één keer en is beperkt geldig.
Geef de link of de code aan niemand door: wie die heeft, kan inloggen als jij.
Heb je hier niet om gevraagd? Dan hoef je niets te doen: er verandert niets.
$m$,
$m$<p>Log in als {email} met deze link.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Inloggen</a></p>
<p>Of vul deze code in: <strong>{token}</strong></p>
<p style="color:#71717a;font-size:14px">De link werkt één keer en is beperkt geldig. Geef de link of de code aan niemand door: wie die heeft, kan inloggen als jij. Heb je hier niet om gevraagd? Dan hoef je niets te doen: er verandert niets.</p>$m$),
  ('invite', 'en', 'You have been invited',
$m$An account was made for {email}. Accept the invitation to use it.

Accept the invitation:
{link}

The link works once and for a limited time.
If you do not expect this, ignore this mail.
$m$,
$m$<p>An account was made for {email}. Accept the invitation to use it.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Accept the invitation</a></p>
<p style="color:#71717a;font-size:14px">The link works once and for a limited time. If you do not expect this, ignore this mail.</p>$m$),
  ('invite', 'nl', 'Je bent uitgenodigd',
$m$Er is een account gemaakt voor {email}. Accepteer de uitnodiging om het te gebruiken.

Uitnodiging accepteren:
{link}

De link werkt één keer en is beperkt geldig.
Verwacht je dit niet? Dan hoef je niets te doen.
$m$,
$m$<p>Er is een account gemaakt voor {email}. Accepteer de uitnodiging om het te gebruiken.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Uitnodiging accepteren</a></p>
<p style="color:#71717a;font-size:14px">De link werkt één keer en is beperkt geldig. Verwacht je dit niet? Dan hoef je niets te doen.</p>$m$),
  ('email_change', 'en', 'Confirm the change of your email address',
$m$Somebody asked to change the address of your account from {email} to {new_email}.

Confirm the change:
{link}

The link works once and for a limited time.
If it was not you, do not confirm, and change your password.
$m$,
$m$<p>Somebody asked to change the address of your account from {email} to {new_email}.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Confirm the change</a></p>
<p style="color:#71717a;font-size:14px">The link works once and for a limited time. If it was not you, do not confirm, and change your password.</p>$m$),
  ('email_change', 'nl', 'Bevestig de wijziging van je e-mailadres',
$m$Iemand heeft gevraagd om het adres van je account te wijzigen van {email} in {new_email}.

Wijziging bevestigen:
{link}

De link werkt één keer en is beperkt geldig.
Was jij dit niet? Bevestig dan niets en wijzig je wachtwoord.
$m$,
$m$<p>Iemand heeft gevraagd om het adres van je account te wijzigen van {email} in {new_email}.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Wijziging bevestigen</a></p>
<p style="color:#71717a;font-size:14px">De link werkt één keer en is beperkt geldig. Was jij dit niet? Bevestig dan niets en wijzig je wachtwoord.</p>$m$),
  ('email_change_new', 'en', 'Confirm your new email address',
$m$Confirm {new_email} as the new address of your account.

Confirm new address:
{link}

The link works once and for a limited time.
If you did not ask for this, ignore this mail: nothing changes.
$m$,
$m$<p>Confirm {new_email} as the new address of your account.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Confirm new address</a></p>
<p style="color:#71717a;font-size:14px">The link works once and for a limited time. If you did not ask for this, ignore this mail: nothing changes.</p>$m$),
  ('email_change_new', 'nl', 'Bevestig je nieuwe e-mailadres',
$m$Bevestig {new_email} als het nieuwe adres van je account.

Nieuw adres bevestigen:
{link}

De link werkt één keer en is beperkt geldig.
Heb je hier niet om gevraagd? Dan hoef je niets te doen: er verandert niets.
$m$,
$m$<p>Bevestig {new_email} als het nieuwe adres van je account.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Nieuw adres bevestigen</a></p>
<p style="color:#71717a;font-size:14px">De link werkt één keer en is beperkt geldig. Heb je hier niet om gevraagd? Dan hoef je niets te doen: er verandert niets.</p>$m$),
  ('reauthentication', 'en', 'Your code to confirm it is you',
$m$Enter this code to confirm that it is you: {token}

Never pass the code on.
If you did not ask for it, change your password: somebody may be signed in as you.
$m$,
$m$<p>Enter this code to confirm that it is you:</p>
<p style="font-size:24px;letter-spacing:4px"><strong>{token}</strong></p>
<p style="color:#71717a;font-size:14px">Never pass the code on. If you did not ask for it, change your password: somebody may be signed in as you.</p>$m$),
  ('reauthentication', 'nl', 'Je code om te bevestigen dat jij het bent',
$m$Vul deze code in om te bevestigen dat jij het bent: {token}

Geef de code aan niemand door.
Heb je hier niet om gevraagd? Wijzig dan je wachtwoord: mogelijk is iemand ingelogd als jij.
$m$,
$m$<p>Vul deze code in om te bevestigen dat jij het bent:</p>
<p style="font-size:24px;letter-spacing:4px"><strong>{token}</strong></p>
<p style="color:#71717a;font-size:14px">Geef de code aan niemand door. Heb je hier niet om gevraagd? Wijzig dan je wachtwoord: mogelijk is iemand ingelogd als jij.</p>$m$),
  ('unlock', 'en', 'Unlock your account',
$m$Your account {email} was locked after several wrong passwords.

Unlock the account:
{link}

The link works once and for a limited time.
If these attempts were not yours, you need not do anything: the account opens by itself later.
$m$,
$m$<p>Your account {email} was locked after several wrong passwords.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Unlock the account</a></p>
<p style="color:#71717a;font-size:14px">The link works once and for a limited time. If these attempts were not yours, you need not do anything: the account opens by itself later.</p>$m$),
  ('unlock', 'nl', 'Ontgrendel je account',
$m$Je account {email} is vergrendeld na meerdere onjuiste wachtwoorden.

Account ontgrendelen:
{link}

De link werkt één keer en is beperkt geldig.
Waren deze pogingen niet van jou? Dan hoef je niets te doen: het account gaat later vanzelf weer open.
$m$,
$m$<p>Je account {email} is vergrendeld na meerdere onjuiste wachtwoorden.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Account ontgrendelen</a></p>
<p style="color:#71717a;font-size:14px">De link werkt één keer en is beperkt geldig. Waren deze pogingen niet van jou? Dan hoef je niets te doen: het account gaat later vanzelf weer open.</p>$m$),
  ('invitation', 'en', 'Invitation to {organization}',
$m${inviter} invites you to join the organization {organization}.

Accept the invitation:
{link}

The invitation expires after seven days.
If you do not know the sender, ignore this mail.
$m$,
$m$<p>{inviter} invites you to join the organization {organization}.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Accept the invitation</a></p>
<p style="color:#71717a;font-size:14px">The invitation expires after seven days. If you do not know the sender, ignore this mail.</p>$m$),
  ('invitation', 'nl', 'Uitnodiging voor {organization}',
$m${inviter} nodigt je uit voor de organisatie {organization}.

Uitnodiging accepteren:
{link}

De uitnodiging verloopt na zeven dagen.
Ken je de afzender niet? Dan hoef je niets te doen.
$m$,
$m$<p>{inviter} nodigt je uit voor de organisatie {organization}.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Uitnodiging accepteren</a></p>
<p style="color:#71717a;font-size:14px">De uitnodiging verloopt na zeven dagen. Ken je de afzender niet? Dan hoef je niets te doen.</p>$m$),
  ('habit_paused', 'en', 'Paused: {habit}',
$m$The habit {habit} of {organization} is paused: its last {failures} runs failed.

Look at its executions, mend what is wrong, and enable the habit:
{link}

You get this mail once, because you made the habit or manage the organization.
$m$,
$m$<p>The habit <strong>{habit}</strong> of {organization} is paused: its last {failures} runs failed.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Look at its executions</a></p>
<p style="color:#71717a;font-size:14px">Mend what is wrong, and enable the habit. You get this mail once, because you made the habit or manage the organization.</p>$m$),
  ('habit_paused', 'nl', 'Gepauzeerd: {habit}',
$m$De gewoonte {habit} van {organization} is gepauzeerd: de laatste {failures} keer ging het mis.

Bekijk de uitvoeringen, verhelp de oorzaak en zet de gewoonte weer aan:
{link}

Je krijgt deze mail één keer, omdat je de gewoonte hebt gemaakt of de organisatie beheert.
$m$,
$m$<p>De gewoonte <strong>{habit}</strong> van {organization} is gepauzeerd: de laatste {failures} keer ging het mis.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Uitvoeringen bekijken</a></p>
<p style="color:#71717a;font-size:14px">Verhelp de oorzaak en zet de gewoonte weer aan. Je krijgt deze mail één keer, omdat je de gewoonte hebt gemaakt of de organisatie beheert.</p>$m$),
  ('reflex_paused', 'en', 'Paused: {reflex}',
$m$The reflex {reflex} of {organization} is paused: who made it listen no longer holds the permission {permission}.

Whoever holds this permission can enable the reflex:
{link}

You get this mail once, because you made the reflex or manage the organization.
$m$,
$m$<p>The reflex <strong>{reflex}</strong> of {organization} is paused: who made it listen no longer holds the permission {permission}.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Look at the reflex</a></p>
<p style="color:#71717a;font-size:14px">Whoever holds this permission can enable the reflex. You get this mail once, because you made the reflex or manage the organization.</p>$m$),
  ('reflex_paused', 'nl', 'Gepauzeerd: {reflex}',
$m$De reflex {reflex} van {organization} is gepauzeerd: wie hem liet luisteren, heeft het recht {permission} niet meer.

Iemand met dit recht kan de reflex weer aanzetten:
{link}

Je krijgt deze mail één keer, omdat je de reflex hebt gemaakt of de organisatie beheert.
$m$,
$m$<p>De reflex <strong>{reflex}</strong> van {organization} is gepauzeerd: wie hem liet luisteren, heeft het recht {permission} niet meer.</p>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Reflex bekijken</a></p>
<p style="color:#71717a;font-size:14px">Iemand met dit recht kan de reflex weer aanzetten. Je krijgt deze mail één keer, omdat je de reflex hebt gemaakt of de organisatie beheert.</p>$m$),
  ('notification_digest', 'en', 'New notifications: {count}',
$m$New notifications:

{each_item}- {organization}{title}
{end_item}
Read them:
{link}

Which notifications you get by mail, and when, you choose in your preferences.
$m$,
$m$<p>New notifications:</p>
<ul>{each_item}<li>{organization}<strong>{title}</strong></li>{end_item}</ul>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Read them</a></p>
<p style="color:#71717a;font-size:14px">Which notifications you get by mail, and when, you choose in your preferences.</p>$m$),
  ('notification_digest', 'nl', 'Nieuwe meldingen: {count}',
$m$Nieuwe meldingen:

{each_item}- {organization}{title}
{end_item}
Lees ze:
{link}

Welke meldingen je per mail krijgt, en wanneer, kies je in je voorkeuren.
$m$,
$m$<p>Nieuwe meldingen:</p>
<ul>{each_item}<li>{organization}<strong>{title}</strong></li>{end_item}</ul>
<p><a href="{link}" style="display:inline-block;padding:10px 20px;background:#18181b;color:#fff;border-radius:6px;text-decoration:none">Lees ze</a></p>
<p style="color:#71717a;font-size:14px">Welke meldingen je per mail krijgt, en wanneer, kies je in je voorkeuren.</p>$m$);
