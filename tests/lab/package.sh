#!/usr/bin/env bash
# package.sh [--dev|--check] [--arch amd64|arm64] [OUT]: builds the Debian packages waifud and waifuctl, and a waifuctl that
# needs no libraries, into OUT (target/package unless told). Prints what it made.
#
#   --dev    of the programs that the tests run, which are built already: for the test of the packages themselves. Of another
#            architecture's they are built, as unoptimised as those
#   --check  nothing but whether they compile
#   --arch   for another architecture than this machine's, with Debian's cross compiler and libraries
#
# Releases are built on the oldest Debian that they are for: its C library is the least that they need.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(realpath "$here/../..")
cargo_deb_version=3.8.0
declare -A gnu=([amd64]=x86_64-linux-gnu [arm64]=aarch64-linux-gnu)
declare -A triple=([amd64]=x86_64-unknown-linux-gnu [arm64]=aarch64-unknown-linux-gnu)

die() { echo "package: $*" >&2 && exit 1; }

dev='' check='' arch=$(dpkg --print-architecture) own=$(dpkg --print-architecture)
while [[ ${1:-} == --* ]]; do
	case "$1" in
	--dev) dev=dev && shift ;;
	--check) check=1 && shift ;;
	--arch) arch=${2:-} && shift 2 ;;
	*) sed -n '2,/^set -/s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
	esac
done
[ -n "${triple[$arch]:-}" ] || die "--arch amd64 or arm64"
target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")
out=$(realpath -m "${1:-$target/package}")
stage=$target/package-stage/$arch
sysroot=$target/lab/sysroot-$arch
laid=$stage/$([ "$arch" = "$own" ] || echo "${triple[$arch]}/")release
musl=${triple[$arch]/gnu/musl}
cargo_deb=$target/tools/bin/cargo-deb

# Debug, for it runs for a second; without lzma, for then the machine's own xz compresses.
tool() {
	[ "$("$cargo_deb" --version 2> /dev/null)" = $cargo_deb_version ] ||
		cargo install --quiet --locked --debug --no-default-features --root "$target/tools" cargo-deb@$cargo_deb_version
}

# Rust's standard library for a target, from rustup if it can be had.
has_std() { # TRIPLE
	compgen -G "$(rustc --print target-libdir --target "$1")/libstd-*.rlib" > /dev/null || rustup target add "$1" > /dev/null 2>&1
}

# Says all that building for an architecture lacks here, before anything is built.
has_all() {
	local gcc=${gnu[$arch]}-gcc missing=()
	[ -n "$dev$check" ] || has_std "$musl" || missing+=("Rust's standard library for a static waifuctl: rustup target add $musl")
	if [ "$arch" != "$own" ]; then
		has_std "${triple[$arch]}" || missing+=("Rust's standard library for $arch: rustup target add ${triple[$arch]}")
		command -v "$gcc" > /dev/null || missing+=("$gcc: apt-get install gcc-${gnu[$arch]//_/-}")
		[ -d "$sysroot" ] || command -v mmdebstrap > /dev/null ||
			missing+=("mmdebstrap, which fetches Debian's libvirt-dev for $arch: apt-get install mmdebstrap")
	fi
	[ ${#missing[@]} = 0 ] || die "what building for $arch lacks here:$(printf '\n  %s' "${missing[@]}")"
}

# Libraries of the other architecture, unpacked where only this build finds them; dpkg need not know that architecture.
cross() {
	local gcc=${gnu[$arch]}-gcc upper
	if [ ! -d "$sysroot" ]; then
		rm -rf "$sysroot.new"
		"$here/debian-sources.sh" | mmdebstrap --quiet --variant=extract --architecture="$arch" --include=libvirt-dev \
			bookworm "$sysroot.new" > /dev/null || die "libvirt-dev of $arch could not be fetched from this machine's apt sources"
		mv "$sysroot.new" "$sysroot"
	fi
	upper=${triple[$arch]//-/_} && upper=${upper^^}
	export "CARGO_TARGET_${upper}_LINKER=$gcc" "CC_${triple[$arch]//-/_}=$gcc"
	# What libvirt's library itself needs is looked for where the program will run.
	export "CARGO_TARGET_${upper}_RUSTFLAGS=-L native=$sysroot/usr/lib/${gnu[$arch]} -C link-arg=-Wl,--allow-shlib-undefined"
	export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_SYSROOT_DIR=$sysroot
	export PKG_CONFIG_LIBDIR=$sysroot/usr/lib/${gnu[$arch]}/pkgconfig:$sysroot/usr/share/pkgconfig
}

# The programs, and beside them those of this machine that write manual pages and completions.
build() {
	WAIFUD_REQUIRE_PANEL=1 "$here/build.sh" > /dev/null
	programs=$target/debug
	[ -z "$dev" ] || [ "$arch" != "$own" ] || return 0
	# Not sooner: those above are this machine's.
	[ "$arch" = "$own" ] || cross
	WAIFUD_REQUIRE_PANEL=1 cargo build --quiet --locked --profile "${dev:-release}" --manifest-path "$root/Cargo.toml" \
		--target "${triple[$arch]}" --package waifud-node --package waifuctl
	programs=$target/${triple[$arch]}/$([ -n "$dev" ] && echo debug || echo release)
}

# Lays out what the [package.metadata.deb] of node/ and ctl/ name, where cargo-deb looks for it.
lay_out() {
	local program
	rm -rf "$stage" && mkdir -p "$laid" "$out"
	for program in waifud waifuctl; do
		stripped "$programs/$program" "$laid/$program"
		"$target/debug/$program" manpage "$laid/$program.man"
		gzip --best --no-name "$laid/$program.man"/*
		for shell in bash zsh fish; do
			"$target/debug/$program" completions "$shell" > "$laid/$program.$shell"
		done
	done
	# The one setting that a package answers itself: it brings the group.
	sed 's/^# \(socket_group = "waifud"\)$/\1/' "$root/node/docs/waifud.example.toml" > "$laid/waifud.toml"
	grep -q '^socket_group' "$laid/waifud.toml" || die "waifud.example.toml has no line for socket_group"
}

stripped() { # FROM TO
	local tool=strip
	[ "$arch" = "$own" ] || tool=${gnu[$arch]}-strip
	"$tool" --strip-debug -o "$2" "$1" && chmod 755 "$2"
}

deb() { # DIRECTORY
	local options=(--no-build --no-strip --deb-revision "" --output "$out") made
	[ -z "$dev" ] || options+=(--fast)
	[ "$arch" = "$own" ] || options+=(--target "${triple[$arch]}")
	# One that was not built for here cannot be asked what it needs, so the other architecture has a list of its own.
	[ "$arch" = amd64 ] || options+=(--variant "$arch")
	made=$(cd "$root/$1" && CARGO_TARGET_DIR=$stage "$cargo_deb" deb "${options[@]}")
	[ "$arch" = amd64 ] || holds "$laid/$(dpkg-deb --field "$made" Package)" "$(dpkg-deb --field "$made" Depends)"
	echo "$made"
}

# That the packages which the list names have what the program takes from libraries, in those versions.
holds() { # PROGRAM DEPENDS
	local library version package needs
	needs=$("${gnu[$arch]}-objdump" --private-headers "$1" |
		sed -nE 's/^ +0x[0-9a-f]+ 0x[0-9a-f]+ [0-9]+ ([A-Z]+)_([0-9.]+)$/\1 \2/p' | sort --unique)
	while read -r library version; do
		case "$library" in
		GLIBC) package=libc6 ;;
		GCC) package=libgcc-s1 version='' ;; # every one that carries this name has it
		LIBVIRT) package=libvirt0 ;;
		*) die "${1##*/} needs ${library:-nothing}, and which package has that is not known here" ;;
		esac
		[[ ", $2," =~ ", $package"(" (>= "([^\)]+)")")?, ]] ||
			die "${1##*/} needs $package, which \"depends\" for $arch lack in its Cargo.toml"
		dpkg --compare-versions "${BASH_REMATCH[2]}" ge "$version" ||
			die "${1##*/} needs $package (>= $version), and \"depends\" for $arch in its Cargo.toml promise less: ${BASH_REMATCH[2]:-any}"
	done <<< "$needs"
}

# For machines that are not Debian, and for looking into one from elsewhere. It asks the name servers of /etc/resolv.conf
# itself, so names that only the machine's own resolver knows are unknown to it; the package's asks the machine.
static() {
	local upper=${musl//-/_}
	# Rust brings the C library; all that is taken from the cross compiler is the linker.
	[ "$arch" = "$own" ] || export "CARGO_TARGET_${upper^^}_LINKER=${gnu[$arch]}-gcc" "CC_$upper=${gnu[$arch]}-gcc"
	cargo build --quiet --locked --release --manifest-path "$root/Cargo.toml" --target "$musl" --package waifuctl
	install -m 755 "$target/$musl/release/waifuctl" "$out/waifuctl-static-$arch"
	! readelf --program-headers "$out/waifuctl-static-$arch" | grep -q INTERP || die "waifuctl is not static"
	echo "$out/waifuctl-static-$arch"
}

has_all
if [ -n "$check" ]; then
	[ "$arch" = "$own" ] || cross
	exec cargo check --locked --manifest-path "$root/Cargo.toml" --target "${triple[$arch]}" --package waifud-node --package waifuctl
fi
tool
build
lay_out
deb node
deb ctl
[ -n "$dev" ] || static
