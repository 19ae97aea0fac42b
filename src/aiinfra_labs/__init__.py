"""AI Infra: from model to architecture. A subpackage for each chapter, and `course` for all."""
