-- QR codes: an SVG, null for null and for what is too long.
select kijko.qr_svg('otpauth://totp/a') like '%<svg%</svg>' as is_svg;
select kijko.qr_svg('a') = kijko.qr_svg('a') as same, kijko.qr_svg('a') <> kijko.qr_svg('b') as differs;
select kijko.qr_svg(null) is null as null_for_null, kijko.qr_svg(repeat('x', 1025)) is null as null_for_long, kijko.qr_svg(repeat('x', 1024)) is not null as longest;
-- Nobody calls it but whom the platform lets.
create role qr_stranger;
grant usage on schema kijko to qr_stranger;
set role qr_stranger;
select kijko.qr_svg('a');
reset role;
revoke usage on schema kijko from qr_stranger;
drop role qr_stranger;
