#!/usr/bin/env bash
# Makes PIXAL's environment in .venv/ next to this file, and enters it:
#
#     source setup.sh [--dev] [--cpu | --gpu] [--recreate] [-h | --help]
#
#   --dev       the tools for work on PIXAL as well (pytest, ruff, mypy, ...)
#   --cpu       TensorFlow for the CPU, even where there is an NVIDIA GPU
#   --gpu       TensorFlow with CUDA (Linux x86_64 and WSL 2), even where no GPU is seen
#   --recreate  throw .venv/ away and start again
#
# With neither --cpu nor --gpu, the first run looks for an NVIDIA GPU; later runs keep what is there.
# Works in bash and zsh, on Linux, WSL, macOS and Git Bash; `bash setup.sh` installs without entering.
# Run it again at any time: it does only what is missing.

if [ -z "${BASH_VERSION:-}${ZSH_VERSION:-}" ]; then
    echo "setup.sh: needs bash or zsh: bash setup.sh" >&2
    return 1
fi

# Sourced: a child shell does the work, so that this one keeps its options, folder and names.
if [ -n "${ZSH_VERSION:-}" ] || (return 0 2>/dev/null); then
    _pixal_setup() {
        local file folder
        if [ -n "${ZSH_VERSION:-}" ]; then
            eval 'file=${(%):-%x}' # bash cannot read this
        else
            file=${BASH_SOURCE[0]}
        fi
        folder=.
        case $file in
        */*) folder=${file%/*} ;;
        esac
        case " $* " in
        *" -h "* | *" --help "*)
            command bash "$file" --help
            return
            ;;
        esac
        PIXAL_SETUP_SOURCED=1 command bash "$file" "$@" </dev/null || return 1
        if [ -f "$folder/.venv/Scripts/activate" ]; then
            . "$folder/.venv/Scripts/activate"
        else
            . "$folder/.venv/bin/activate"
        fi
    }
    if _pixal_setup "$@"; then
        unset -f _pixal_setup
        return 0
    fi
    unset -f _pixal_setup
    return 1
fi

# Executed, from here on; written for bash 3.2, which macOS has.
set -u
CDPATH=''
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
root=$PWD
venv=$root/.venv
state=$venv/pixal-setup.txt # what this script made and installed: folder, variant, dev tools, checksum

main() {
    local dev=no variant='' recreate=no
    while [ $# -gt 0 ]; do
        case $1 in
        --dev) dev=yes ;;
        --cpu | --gpu)
            [ -z "$variant" ] || [ "$variant" = "${1#--}" ] || fail "choose one of --cpu and --gpu"
            variant=${1#--}
            ;;
        --recreate) recreate=yes ;;
        -h | --help)
            sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]##*/}"
            exit 0
            ;;
        --) ;; # keeps a script's own arguments from being taken for ours, as `source` hands them on
        *) fail "unknown option '$1' (--help lists them; in a script with arguments: source setup.sh --)" ;;
        esac
        shift
    done

    put_configs
    local had_root='' had_variant='' had_dev='' had_sum=''
    if [ -f "$state" ]; then
        { read -r had_root; read -r had_variant; read -r had_dev; read -r had_sum; } <"$state"
        variant=${variant:-$had_variant}
        [ "$had_dev" != yes ] || dev=yes
    fi
    choose_variant

    local requirements="requirements.txt"
    [ "$variant" = gpu ] || requirements="requirements-cpu.txt"
    local files=("$requirements" pyproject.toml)
    [ "$dev" = no ] || files+=(requirements-dev.txt)
    local sum
    sum=$(cat "${files[@]}" | cksum) || fail "cannot read ${files[*]} in $root"

    # Both TensorFlow variants own the same files, and a moved environment points to its old place.
    if [ -f "$state" ] && { [ "$had_root" != "$root" ] || [ "$had_variant" != "$variant" ]; }; then
        recreate=yes
    fi
    [ ! -f "$state" ] || venv_python >/dev/null || recreate=yes
    if [ $recreate = yes ] && [ -e "$venv" ]; then
        rm -rf "$venv" || fail "cannot remove $venv"
        had_sum=''
    fi
    if [ "$had_sum" != "$sum" ] || [ "$had_dev" != "$dev" ]; then
        install
        printf '%s\n' "$root" "$variant" "$dev" "$sum" >"$state" || fail "cannot write $state"
    fi

    if [ -n "${PIXAL_SETUP_SOURCED:-}" ]; then
        echo "PIXAL is ready ($variant). Next: pixal --help"
    else
        echo "PIXAL is ready ($variant). Enter its environment with: source setup.sh"
    fi
}

fail() {
    printf 'setup.sh: %s\n' "$*" >&2
    exit 1
}

# A file that the user has edited stays as it is.
put_configs() {
    mkdir -p configs || fail "cannot make $root/configs"
    local file
    for file in pixal/config/defaults/*.yaml; do
        [ -e "$file" ] || fail "no default configurations in $root/pixal/config/defaults: is the copy complete?"
        [ -e "configs/${file##*/}" ] || cp "$file" configs/ || fail "cannot write to $root/configs"
    done
}

choose_variant() {
    local system machine
    system=$(uname -s)
    machine=$(uname -m)
    case $system-$machine in
    Darwin-x86_64) fail "TensorFlow has no wheels for Intel Macs; use Linux, Windows or an Apple silicon Mac" ;;
    Linux-x86_64)
        # On WSL the tool lies outside PATH at times.
        if [ -z "$variant" ]; then
            variant=cpu
            if PATH=$PATH:/usr/lib/wsl/lib nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then variant=gpu; fi
        fi
        ;;
    *)
        [ "$variant" != gpu ] || fail "TensorFlow has no GPU build for $system on $machine (on Windows, use WSL 2)"
        variant=cpu
        ;;
    esac
}

# Prints the environment's Python; fails where there is none that works.
venv_python() {
    local python=$venv/bin/python
    [ ! -e "$venv/Scripts/python.exe" ] || python=$venv/Scripts/python.exe
    supported "$python" && printf '%s\n' "$python"
}

supported() {
    "$@" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

install() {
    local uv='' python
    if uv --version >/dev/null 2>&1; then uv=uv; fi
    [ -e "$venv" ] || create
    python=$(venv_python) || fail "$venv holds no Python 3.10 to 3.13; 'source setup.sh --recreate' makes it anew"
    printf '%s\n' "$root" "$variant" "$dev" incomplete >"$state" || fail "cannot write to $venv"

    echo "Installing $requirements$([ "$dev" = no ] || echo ' and requirements-dev.txt')" \
        "with ${uv:-pip}: some minutes the first time"
    local with=(-r "$requirements")
    [ "$dev" = no ] || with+=(-r requirements-dev.txt)
    pip_install "${with[@]}" || fail "the installation from $requirements failed, for the reason above"
    pip_install --no-deps -e . || fail "the installation of PIXAL itself failed, for the reason above"
}

pip_install() {
    if [ -n "$uv" ]; then
        uv pip install --quiet --python "$python" "$@"
    else
        "$python" -m pip install --quiet --disable-pip-version-check --no-input "$@"
    fi
}

create() {
    local python
    if python=$(find_python); then
        :
    elif [ -n "$uv" ]; then
        python='>=3.10,<3.14' # uv finds one, or fetches it
    elif [ -n "$python" ]; then
        [ "$python" != python ] || python=python3
        fail "$python has no venv module (Debian, Ubuntu: sudo apt install $python-venv)"
    else
        fail "no Python 3.10 to 3.13 found, the versions that TensorFlow supports; install one, or uv"
    fi
    if [ -n "$uv" ]; then
        uv venv --quiet --seed --python "$python" "$venv"
    else
        "$python" -m venv "$venv"
    fi || {
        rm -rf "$venv" # half an environment would be taken for a whole one
        fail "cannot make the environment $venv with $python"
    }
}

# Prints the name of a usable Python. Where there is none: fails, and prints one that only lacks its venv module.
find_python() {
    local name without=''
    for name in python3.13 python3.12 python3.11 python3.10 python3 python; do
        supported "$name" || continue
        if [ -n "$uv" ] || "$name" -c 'import venv, ensurepip' 2>/dev/null; then
            echo "$name"
            return 0
        fi
        without=${without:-$name}
    done
    echo "$without"
    return 1
}

main "$@"
