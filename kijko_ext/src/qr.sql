comment on function kijko.qr_svg(text) is 'A text of at most 1024 bytes as a QR code in SVG; null for a longer one.';
