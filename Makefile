# make demo, make test: nothing but Python 3.9 to 3.12 is needed. MODEL=arn narrows a target to one model.
PYTHON ?= python3
DEVICE ?= cpu
VENV := .venv
BIN := $(abspath $(VENV))/bin
MODELS := $(patsubst %/train.py,%,$(wildcard */train.py))
ifneq ($(filter-out shared_utils $(MODELS),$(MODEL)),)
$(error MODEL=$(MODEL) is none of $(MODELS))
endif
ifneq ($(filter-out cpu gpu,$(DEVICE)),)
$(error DEVICE=$(DEVICE) is neither cpu nor gpu)
endif
REQUIREMENTS := requirements-dev.txt $(if $(filter gpu,$(DEVICE)),requirements-gpu.txt)
STAMP := $(VENV)/installed-$(DEVICE)

.PHONY: setup demo test lint contract smoke pack bench flops kill soak ranks faults videos check-data
.DEFAULT_GOAL := demo

setup: $(STAMP)

$(STAMP): $(wildcard requirements*.txt */requirements.txt)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 13) and \
		"error: Python 3.9 to 3.12 is needed, not " + sys.version.split()[0] + ": make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix -r ,$(REQUIREMENTS))
ifeq ($(DEVICE),gpu)
	PYTHON=$(BIN)/python bash -c 'source shared_utils/common.sh; "$$python" ci/cuda.py'
endif
	touch $@

# Synthetic videos, training, evaluation on classes or videos never seen, GIFs with predictions.
demo: setup
	bash ci/demo.sh $(or $(MODEL),arn)

test: setup
	bash ci/test.sh $(or $(MODEL),shared_utils $(MODELS))

lint: setup contract
	$(BIN)/ruff check .
	$(BIN)/shellcheck -x ci/*.sh .ci/run shared_utils/*.sh */scripts/*.sh

contract: setup
	$(BIN)/python ci/contract.py

# Pack the model alone, then train two steps, evaluate, export and infer from the packed folder.
smoke: setup
	bash ci/smoke.sh $(or $(MODEL),$(MODELS))

# The one folder that a ModelArts job uploads.
pack: setup
	$(BIN)/python ci/pack.py $(or $(MODEL),arn) "$(or $(DEST),demo/packed)"

bench: setup
	cd $(or $(MODEL),arn) && $(BIN)/python $(if $(filter-out arn stnet,$(MODEL)),../ci/)bench.py $(ARGS)

# Parameters and multiply-accumulates; ARGS="-c FILE.yaml --section.key=value ..." for another network or shape.
flops: setup
	$(BIN)/python ci/flops.py $(or $(MODEL),arn) $(ARGS)

# Toy training killed ten times with SIGKILL ends as if it never was: ARGS="--kills 3 -- -c FILE.yaml ...".
kill: videos
	$(BIN)/python ci/kill.py $(or $(MODEL),arn) $(ARGS)

# 5,000 clips through loader and training step: memory and open files must not grow.
soak: videos
	$(BIN)/python ci/soak.py $(or $(MODEL),arn) $(ARGS)

# Clips a second of two ranks beside one process, toy training or ARGS="-- -c FILE.yaml --section.key=value ...".
ranks: videos
	$(BIN)/python ci/ranks.py $(or $(MODEL),arn) $(ARGS)

# Training with a fifth of the videos broken, ffmpeg killed, a slow disk, a full /dev/shm: it ends and reports.
faults: setup
	$(BIN)/python ci/faults.py $(or $(MODEL),arn) $(ARGS)

# What the toy runs train on.
videos: setup
	$(BIN)/python ci/synthetic_videos.py $(if $(filter arn,$(or $(MODEL),arn)),demo/videos, \
		demo/kinetics --layout kinetics --classes 8 --videos 100)

check-data: setup
	$(BIN)/python ci/check_data.py "$(or $(DATA),$(error name the data set: make check-data DATA=DIR))"
