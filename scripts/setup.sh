#!/usr/bin/env bash
# Prepares this machine: .venv with the pinned requirements and this package, and the system programs that the
# tests and the demo run. Quick when nothing is to be done; safe to run again after any failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# program=Debian package. apache2-bin carries no service; the others' services are kept from starting below.
PROGRAMS=(rsync=rsync nginx=nginx apache2=apache2-bin lighttpd=lighttpd vsftpd=vsftpd lftp=lftp strace=strace
          setpriv=util-linux zsyncmake=zsync apt-ftparchive=apt-utils createrepo_c=createrepo-c gpg=gpg gpgv=gpgv
          gpg-agent=gpg-agent rpmbuild=rpm openssl=openssl xz=xz-utils bzip2=bzip2 zstd=zstd
          sshd=openssh-server ssh=openssh-client dnf=dnf /usr/libexec/dnf-utils-3=dnf-plugins-core)
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

missing_packages() {
    local pair
    for pair in "${PROGRAMS[@]}"; do
        command -v "${pair%%=*}" >/dev/null || echo "${pair#*=}"
    done
}

die() {
    echo "setup: $*" >&2
    exit 1
}

install_packages() {
    local packages policy=/usr/sbin/policy-rc.d own_policy="" fresh=()
    mapfile -t packages < <(missing_packages)
    [ ${#packages[@]} -eq 0 ] && return
    [ "$(id -u)" -eq 0 ] || die "these Debian packages are missing and only root can install them: ${packages[*]}"
    command -v apt-get >/dev/null || die "install these programs' packages, then run this again: ${packages[*]}"
    if [ ! -e $policy ]; then # Debian's own switch against services that start as they are installed
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        own_policy=yes
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    if [ -d /run/systemd/system ]; then # nor are they to start at the next boot
        mapfile -t fresh < <(printf '%s\n' "${packages[@]}" | sed 's/^openssh-server$/ssh/' |
            grep -xE 'nginx|lighttpd|vsftpd|ssh' || true)
        [ ${#fresh[@]} -eq 0 ] || systemctl --quiet disable "${fresh[@]}"
    fi
    if [ -n "$own_policy" ]; then
        rm -f $policy
        trap - EXIT
    fi
}

# Debian's FTP servers exclude each other: one is installed, the others are unpacked here and run from here.
UNPACKED=.cache/ftp-servers
FTP_SERVERS=(proftpd-core proftpd-mod-crypto pure-ftpd pure-ftpd-common)

lacking_libraries() { # those that the packages named need and this machine does not have
    local package
    for package in $(apt-cache depends -i "$@" | sed -nE 's/^ *\|?(Pre)?Depends: (lib[^ ]*)$/\2/p' | sort -u); do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
    done
}

unpack_servers() {
    local folder libraries further
    [ -e $UNPACKED/complete ] && return
    command -v apt-get >/dev/null || die "tests/servers.py runs ProFTPD and Pure-FTPd from $UNPACKED; put them there"
    apt-cache show "${FTP_SERVERS[0]}" >/dev/null 2>&1 || apt-get update -qq
    mapfile -t libraries < <(lacking_libraries "${FTP_SERVERS[@]}")
    further=()
    [ ${#libraries[@]} -eq 0 ] || mapfile -t further < <(lacking_libraries "${libraries[@]}")
    folder=$(mktemp -d)
    (cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root \
        "${FTP_SERVERS[@]}" "${libraries[@]}" "${further[@]}")
    rm -rf $UNPACKED
    mkdir -p $UNPACKED
    find "$folder" -name '*.deb' -exec dpkg -x {} $UNPACKED \;
    rm -rf "$folder"
    touch $UNPACKED/complete
}

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    die "no Python 3.11 or newer found; PYTHON=/path/to/python names one"
}

make_venv() {
    local python
    python=$(find_python)
    # Debian splits ensurepip off into python3-venv; without it, the system's pip puts one into the new .venv.
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv --clear .venv
    else
        "$python" -m venv --clear --without-pip .venv
        "$python" -m pip --python .venv/bin/python install --quiet --disable-pip-version-check pip
    fi
}

key=$(cat requirements.lock pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/sideways ] && [ "$(cat .setup-done 2>/dev/null)" = "$key" ] && [ -z "$(missing_packages)" ] &&
    [ -e $UNPACKED/complete ]; then
    exit 0
fi

install_packages
unpack_servers
.venv/bin/python -m pip --version >/dev/null 2>&1 || make_venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
echo "$key" >.setup-done
echo "setup: done; .venv/bin/sideways is the command"
