#!/usr/bin/env bash
# The wheels of a release with GPU kernels, by cibuildwheel: as pyproject.toml says, and with nvcc.
#
#   tools/cuda_wheels.sh --output-dir dist
set -euo pipefail
cd "$(dirname "$0")/.."
release=13-0
repository=https://developer.download.nvidia.com/compute/cuda/repos/rhel8/x86_64/cuda-rhel8.repo
CIBW_BEFORE_ALL="dnf -y install dnf-plugins-core && dnf config-manager --add-repo $repository"
CIBW_BEFORE_ALL+=" && dnf -y install cuda-nvcc-$release cuda-cudart-devel-$release"
export CIBW_BEFORE_ALL
export CIBW_ENVIRONMENT="CMAKE_ARGS=-DPTQSR_CUDA=ON CUDACXX=/usr/local/cuda-${release/-/.}/bin/nvcc"
export CIBW_CONFIG_SETTINGS="--global-option='egg_info --tag-build=+cu${release/-/}'"
CIBW_TEST_COMMAND='PATH=$(dirname "$(command -v python)") python {project}/tools/check_install.py cuda'
export CIBW_TEST_COMMAND
exec cibuildwheel --platform linux "$@"
