import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for what tests share: pytest imports by path alone
