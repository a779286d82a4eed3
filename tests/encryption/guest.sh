#!/bin/busybox sh
# shellcheck shell=dash
# The first program of the machine of disk.test.mjs, which puts the commands of the documentation in their place. /dev/vda is the disk
# that is encrypted, /dev/vdb the other device, on which the keys are and what stays of /etc. Each check ends the machine if it fails.
/bin/busybox --install -s /bin
export PATH=/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo /bin/modprobe > /proc/sys/kernel/modprobe
for module in virtio_pci virtio_blk dm_mod dm_crypt xts ecb algif_skcipher algif_hash; do modprobe "$module"; done

end() {
  echo "guest: $1"
  umount -a 2> /dev/null
  sync
  poweroff -f
}
opens() { cryptsetup open --test-passphrase --key-file "$1" /dev/vda 2> /dev/null; }

make() {
  mkfs.ext4 -q /dev/vdb && mount /dev/vdb /root-keys && cd /root-keys || return 1
  echo YES > /tmp/answer
  # As it would be typed: whether to overwrite, then the passphrase.
  DOCUMENTED_FORMAT
  head -c 64 /dev/urandom > /tmp/other.key
  grep -q ' /var/lib/kijko ext4 ' /proc/mounts || return 1
  yes WORD-ON-THE-DISK | head -n 100000 > /var/lib/kijko/file
  echo WORD-ON-THE-OTHER-DEVICE > /root-keys/plain
  ! opens /tmp/other.key || return 1
  opens /root-keys/kijko.key || return 1
  printf PASSPHRASE > /tmp/passphrase
  opens /tmp/passphrase || return 1
  cp /etc/crypttab /etc/fstab /root-keys/
}

again() {
  # The root of a machine stays; this one is in memory.
  mkdir -p /var/lib/kijko
  mount /dev/vdb /root-keys && cd /root-keys && cp crypttab fstab /etc/ || return 1
  # What systemd does with the two files.
  read -r name device key type < /etc/crypttab
  cryptsetup open --type "$type" --key-file "$key" "$device" "$name" && mount -a || return 1
  [ "$(sort -u /var/lib/kijko/file)" = WORD-ON-THE-DISK ] || return 1
  cp kijko.key former.key
  DOCUMENTED_CHANGE
  ! opens former.key && opens kijko.key || return 1
  [ "$(sort -u /var/lib/kijko/file)" = WORD-ON-THE-DISK ] || return 1
  umount /var/lib/kijko && cryptsetup close kijko || return 1
  # The header is lost, and comes back.
  dd if=/dev/zero of=/dev/vda bs=1M count=16 2> /dev/null
  ! cryptsetup open --key-file kijko.key /dev/vda kijko 2> /dev/null || return 1
  cryptsetup luksHeaderRestore --batch-mode --header-backup-file new.luks-header /dev/vda || return 1
  cryptsetup open --key-file kijko.key /dev/vda kijko && mount -a || return 1
  [ "$(sort -u /var/lib/kijko/file)" = WORD-ON-THE-DISK ] || return 1
  # With the former header, the former key opens it still.
  umount /var/lib/kijko && cryptsetup close kijko || return 1
  cryptsetup luksHeaderRestore --batch-mode --header-backup-file kijko.luks-header /dev/vda || return 1
  opens former.key || return 1
  cryptsetup luksHeaderRestore --batch-mode --header-backup-file new.luks-header /dev/vda
}

mkdir -p /tmp /root-keys /etc /run/cryptsetup
task=again
grep -q kijko=make /proc/cmdline && task='make'
if "$task"; then end passed; else end failed; fi
