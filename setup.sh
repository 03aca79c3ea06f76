#!/usr/bin/env bash
# Create PIXAL's Python environment in .venv/ next to this file, and activate it:
#
#     source setup.sh [--dev] [--cpu | --gpu] [--recreate] [-h | --help]
#
#   --dev       also install the tools for developing PIXAL (pytest, ruff, mypy, ...)
#   --cpu       install TensorFlow for the CPU, even if there is an NVIDIA GPU
#   --gpu       install TensorFlow with CUDA (Linux x86_64 and WSL 2), even if no GPU is found
#   --recreate  delete .venv/ and create it again
#
# Without --cpu or --gpu, the first run looks for an NVIDIA GPU. Later runs keep the choice.
# This works in bash and zsh, on Linux, WSL, macOS and Git Bash. `bash setup.sh` installs without activating.
# You can run it again at any time: it installs only what is missing.

if [ -z "${BASH_VERSION:-}${ZSH_VERSION:-}" ]; then
    echo "setup.sh: needs bash or zsh: bash setup.sh" >&2
    return 1
fi

# If the file is sourced, a child shell does the work. The caller's shell keeps its options, folder and variables.
if [ -n "${ZSH_VERSION:-}" ] || (return 0 2>/dev/null); then
    _pixal_setup() {
        local file folder
        if [ -n "${ZSH_VERSION:-}" ]; then
            eval 'file=${(%):-%x}' # eval, because bash cannot parse it
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

# From here on the file is executed, not sourced. It must run in bash 3.2, the version of macOS.
set -u
CDPATH=''
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
root=$PWD
venv=$root/.venv
state=$venv/pixal-setup.txt # what was installed: folder, variant, dev tools, checksum

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
        --) ;; # `source setup.sh --` in a script: otherwise bash passes the script's own arguments to this file
        *) fail "unknown option '$1' (--help lists them; in a script with arguments: source setup.sh --)" ;;
        esac
        shift
    done

    copy_configs
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

    # The two TensorFlow variants install the same files, and a moved environment contains its old path.
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
        echo "PIXAL is ready ($variant). Activate its environment with: source setup.sh"
    fi
}

fail() {
    printf 'setup.sh: %s\n' "$*" >&2
    exit 1
}

# Copy the default configuration. A file that exists is kept: the user may have edited it.
copy_configs() {
    mkdir -p configs || fail "cannot create $root/configs"
    local file
    for file in pixal/config/defaults/*.yaml; do
        [ -e "$file" ] || fail "no default configuration in $root/pixal/config/defaults; is this copy of PIXAL complete?"
        [ -e "configs/${file##*/}" ] || cp "$file" configs/ || fail "cannot write to $root/configs"
    done
}

# Set variant to cpu or gpu, unless an option or an earlier run has set it.
choose_variant() {
    local system machine
    system=$(uname -s)
    machine=$(uname -m)
    case $system-$machine in
    Darwin-x86_64) fail "TensorFlow has no wheels for Intel Macs; use Linux, Windows or an Apple silicon Mac" ;;
    Linux-x86_64)
        # On WSL, nvidia-smi is not always in PATH.
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

# Print the path of the environment's Python. Fail if there is none that works.
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
    python=$(venv_python) || fail "$venv has no Python 3.10 to 3.13; create it again with 'source setup.sh --recreate'"
    printf '%s\n' "$root" "$variant" "$dev" incomplete >"$state" || fail "cannot write to $venv"

    echo "Installing $requirements$([ "$dev" = no ] || echo ' and requirements-dev.txt')" \
        "with ${uv:-pip}; the first time this takes some minutes"
    local with=(-r "$requirements")
    [ "$dev" = no ] || with+=(-r requirements-dev.txt)
    pip_install "${with[@]}" || fail "cannot install $requirements; the reason is above"
    pip_install --no-deps -e . || fail "cannot install PIXAL; the reason is above"
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
        python='>=3.10,<3.14' # uv finds or downloads one
    elif [ -n "$python" ]; then
        [ "$python" != python ] || python=python3
        fail "$python has no venv module (Debian, Ubuntu: sudo apt install $python-venv)"
    else
        fail "no Python 3.10 to 3.13 found (the versions that TensorFlow supports); install one, or install uv"
    fi
    if [ -n "$uv" ]; then
        uv venv --quiet --seed --python "$python" "$venv"
    else
        "$python" -m venv "$venv"
    fi || {
        rm -rf "$venv" # the next run must not take it for a complete environment
        fail "cannot create the environment $venv with $python"
    }
}

# Print the name of a usable Python. If there is none, fail, and print one that has no venv module, if there is one.
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
