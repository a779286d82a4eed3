\set VERBOSITY terse
\pset null '<null>'
select * from kijko.error_codes order by http_status, code;
-- Outside PostgREST: the table's SQLSTATE, "code: meaning", detail and hint.
create function sqlstate_of(command text) returns text language plpgsql as $$
declare
    message text; detail text; hint text;
begin
    execute command;
    return 'no error';
exception when others then
    get stacked diagnostics message = message_text, detail = pg_exception_detail, hint = pg_exception_hint;
    return concat_ws(' | ', sqlstate, message, nullif(detail, ''), nullif(hint, ''));
end
$$;
select sqlstate_of($$select kijko.fail('not_found')$$);
select sqlstate_of($$select kijko.fail('not_found', 'what')$$);
select sqlstate_of($$select kijko.fail('not_found', null, 'look elsewhere')$$);
select sqlstate_of($$select kijko.fail('not_found', 'what', 'look elsewhere')$$);
select sqlstate_of($$select kijko.fail('no such code', 'hidden', 'hidden')$$);
select sqlstate_of($$select kijko.fail(null)$$);
-- Every code can be raised.
select code from kijko.error_codes
where sqlstate_of(format('select kijko.fail(%L)', code)) <> concat(sqlstate, ' | ', code, ': ', meaning);
-- Inside PostgREST: its SQLSTATE, the body in the message, status and headers in the detail.
begin;
set local request.method = 'GET';
select kijko.is_request();
select sqlstate_of($$select kijko.fail('not_found')$$);
select sqlstate_of($$select kijko.fail('quota_exceeded', 'used 1 of 1', 'wait')$$);
-- An error includes headers set before. Setting a header again replaces it, in any case; cookies repeat.
select kijko.add_header('X-One', '1');
select kijko.add_header('X-Two', '2');
select kijko.add_header('x-one', '3');
select kijko.add_header('Set-Cookie', 'a=1');
select kijko.add_header('Set-Cookie', 'b=2');
select kijko.response_headers();
select sqlstate_of($$select kijko.fail('rate_limited')$$);
-- A header cannot inject another one.
select sqlstate_of($$select kijko.add_header('X', E'1\r\nSet-Cookie: x')$$);
select sqlstate_of($$select kijko.add_header('X: y', '1')$$);
select sqlstate_of($$select kijko.add_header('', '1')$$);
select sqlstate_of($$select kijko.add_header(null, '1')$$);
-- Null removes a header.
select kijko.add_header('x-two', null);
select kijko.response_headers();
-- Internal errors go to the log. The client gets the request's id.
select sqlstate_of($$select kijko.fail('internal', 'the cause')$$);
set local request.headers = '{"x-request-id": "42"}';
select kijko.request_header('X-Request-ID');
select sqlstate_of($$select kijko.fail('internal', 'the cause')$$);
select sqlstate_of($$select kijko.fail('unavailable', 'the cause', 'the remedy')$$);
set local request.headers = 'not json';
select kijko.request_header('X-Request-ID');
set local response.headers = 'not json';
select kijko.response_headers();
set local response.headers = '{}';
select kijko.response_headers();
rollback;
-- A login that is not trusted cannot act as PostgREST.
create role app_user;
begin;
set local request.method = 'GET';
set local session authorization app_user;
select kijko.is_request();
select kijko.fail('not_found');
rollback;
select kijko.request_header('x');
-- A custom setting is empty after its transaction.
set request.method = '';
select kijko.is_request();
reset request.method;
drop role app_user;
drop function sqlstate_of;
