-- A schedule in words.
begin;
\ir 000_helpers.sql
select plan(48);

select tests.sign_up('ada');
select tests.act_as_anon();
select throws_ok($$select public.describe_cron('* * * * *')$$, '42501', null, 'anon asks nothing');
select tests.act_as('ada');
select is(public.describe_cron(t.expression), t.words || ' (UTC)', t.expression)
from (
  values
    ('* * * * *', 'Every minute'),
    ('*/1 */1 */1 */1 */1', 'Every minute'),
    ('*/5 * * * *', 'Every 5 minutes'),
    ('*/7 * * * *', 'At every 7th minute of every hour'),
    ('5 * * * *', 'At minute 5 of every hour'),
    ('5,10-15 * * * *', 'At the minutes 5 and 10 to 15 of every hour'),
    ('0 * * * *', 'Every hour'),
    ('@hourly', 'Every hour'),
    ('0 */2 * * *', 'Every 2 hours'),
    ('0 */5 * * *', 'At minute 0 of every 5th hour'),
    ('0 1-23/2 * * *', 'At minute 0 of every 2nd hour from 01 to 23'),
    ('0 9-17 * * *', 'Every hour from 09:00 to 17:00'),
    ('*/15 9-17 * * 1-5', 'Every 15 minutes from 09:00 to 17:59, on Monday to Friday'),
    ('*/15 */2 * * *', 'Every 15 minutes of every 2nd hour'),
    ('*/20 8,9 * * *', 'Every 20 minutes of the hours 08 and 09'),
    ('* 9 * * *', 'Every minute from 09:00 to 09:59'),
    ('10-20 9 * * *', 'At the minutes 10 to 20 from 09:00 to 09:59'),
    ('30 9 * * *', 'At 09:30, every day'),
    (' 30  9 * * * ', 'At 09:30, every day'),
    ('@daily', 'At 00:00, every day'),
    ('@midnight', 'At 00:00, every day'),
    ('0 9,17 * * *', 'At 09:00 and 17:00, every day'),
    ('0,30 9,17 * * *', 'At 09:00, 09:30, 17:00 and 17:30, every day'),
    ('0 9 * * mon-fri', 'At 09:00, on Monday to Friday'),
    ('0 9 * * MON-FRI', 'At 09:00, on Monday to Friday'),
    ('0 9 * * sat,sun', 'At 09:00, on Saturday and Sunday'),
    ('0 9 * * fri-sun', 'At 09:00, on Friday to Sunday'),
    ('0 9 * * 7', 'At 09:00, on Sunday'),
    ('@weekly', 'At 00:00, on Sunday'),
    ('0 0 1 * *', 'At 00:00, on the 1st of the month'),
    ('@monthly', 'At 00:00, on the 1st of the month'),
    ('0 0 1,15 * *', 'At 00:00, on the 1st and 15th of the month'),
    ('0 0 2-3,11,22 * *', 'At 00:00, on the 2nd to 3rd, 11th and 22nd of the month'),
    ('0 0 */2 * *', 'At 00:00, on every 2nd day of the month'),
    ('0 12 1-31/10 * *', 'At 12:00, on every 10th day from the 1st to the 31st of the month'),
    ('0 0 13 * fri', 'At 00:00, on the 13th of the month and on Friday'),
    ('0 0 1-7 jan-mar mon', 'At 00:00, on the 1st to 7th of the month and on Monday in January to March'),
    ('0 0 29 2 *', 'At 00:00, on the 29th of the month in February'),
    ('0 0 * */3 *', 'At 00:00, in every 3rd month'),
    ('0 0 * dec,jun *', 'At 00:00, in December and June'),
    ('@yearly', 'At 00:00, on the 1st of the month in January'),
    ('@annually', 'At 00:00, on the 1st of the month in January')
) as t (expression, words);
select is(public.describe_cron('0 9 * * *', 'Europe/Amsterdam'), 'At 09:00, every day (Europe/Amsterdam)', 'the zone is named');
select tests.refuses($$select public.describe_cron('61 * * * *')$$, 'invalid_cron', 'a bad expression is refused');
select tests.refuses($$select public.describe_cron(null)$$, 'invalid_cron', 'null is refused');
select tests.refuses($$select public.describe_cron('@daily', 'Mars/Base')$$, 'invalid_timezone', 'a bad zone is refused');
select tests.refuses($$select public.describe_cron('@daily', null)$$, 'invalid_timezone', 'no zone is refused');

select * from finish();
rollback;
