#!/bin/sh
# Makes the certificates of the tests again: an authority, and one key with certificates that are not yet valid, no longer
# valid, and for another host. Dates are far away, so that no test ever depends on the day.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -keyout "$work/ca.key" -out ca.pem \
    -subj '/CN=novella unit tests' -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign'
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out server.key
touch "$work/index"
cat >"$work/ca.conf" <<CONF
[ca]
default_ca = tests
[tests]
database = $work/index
new_certs_dir = $work
default_md = sha256
policy = any
rand_serial = yes
unique_subject = no
[any]
commonName = supplied
CONF
certificate() { # NAME NAMES START END
    printf 'basicConstraints=CA:FALSE\nsubjectAltName=%s\n' "$2" >"$work/$1.ext"
    openssl req -new -key server.key -subj "/CN=$1" -out "$work/$1.csr"
    openssl ca -batch -config "$work/ca.conf" -cert ca.pem -keyfile "$work/ca.key" -notext -startdate "$3" -enddate "$4" \
        -extfile "$work/$1.ext" -in "$work/$1.csr" -out "$1.pem"
}
certificate expired DNS:localhost,IP:127.0.0.1 20200101000000Z 20210304050607Z
certificate future DNS:localhost,IP:127.0.0.1 21000102030405Z 21010101000000Z
certificate elsewhere DNS:mq1.example.org,DNS:mq2.example.org,IP:192.0.2.7 20200101000000Z 21000101000000Z
