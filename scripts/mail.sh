# Mail: whether it is sent, and what was kept or sent. Sourced by ./kijko and by deploy/docker/migrate-entrypoint.sh.
# shellcheck shell=bash

# set_mail_delivery smtp|keep: the database makes mails, and must know whether a sidecar sends them. SITE_URL is where their links lead.
set_mail_delivery() {
  owner_psql -v delivery="$1" -v site="$SITE_URL" -f - > /dev/null <<'SQL'
select private.mail_set_delivery(:'delivery', :'site');
SQL
}

command_mail() {
  local action=${1:-list}
  [ "$#" = 0 ] || shift
  case $action in
    list)
      [ "$#" = 0 ] || misuse "mail list takes no arguments"
      require_running
      mail_list
      ;;
    send)
      [ "$#" = 1 ] && is_mail_id "$1" || misuse "mail send takes the id of a kept mail"
      require_running
      mail_send "$1"
      ;;
    *)
      [ "$#" = 0 ] && is_mail_id "$action" || misuse "mail takes: list, ID, send ID"
      require_running
      mail_show "$action"
      ;;
  esac
}

is_mail_id() { [[ $1 =~ ^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$ ]]; }

# What the database holds was written by others: no control character of it reaches the terminal.
printable() { tr -d '\000-\010\013-\037\177'; }

mail_list() {
  owner_psql -P footer=off -P null=- -f - <<'SQL' | printable
select m.id, m.created_at::timestamptz(0) as created, m.status, m.template, m.recipient, m.attempts, m.smtp_code as code, m.error_code as error
from private.mail_messages as m order by m.created_at desc, m.id limit 50;
SQL
}

mail_show() {
  local text
  text=$(owner_psql -At -v id="$1" -f - <<'SQL'
select concat_ws(e'\n',
  'To:      ' || m.recipient, 'Status:  ' || m.status || coalesce(' (' || m.error_code || ')', ''),
  'Subject: ' || r.subject, 'Link:    ' || r.link, '', coalesce(r.text, 'Its text is gone: it was sent or given up, or kept for too long.'))
from private.mail_messages as m left join lateral private.mail_render(m.id) as r on true where m.id = :'id';
SQL
  )
  [ -n "$text" ] || fail "there is no mail $1"
  printable <<< "$text"
}

mail_send() {
  local status
  status=$(owner_psql -At -v id="$1" -f - <<'SQL'
select private.mail_send_kept(:'id');
SQL
  )
  case $status in
    queued) say "the mail is queued" ;;
    '') fail "there is no mail $1" ;;
    kept) fail "the mail stays kept: there is no SMTP_URL, or its text is gone" ;;
    *) fail "the mail is $status" ;;
  esac
}
